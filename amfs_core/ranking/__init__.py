"""Words to terms to scores: pure functions, no database, no storage."""

from amfs_core.ranking import bm25, fusion, postings, terms
from amfs_core.ranking.bm25 import NOBODY, Frequencies, Neighbours, Worths
from amfs_core.ranking.fusion import Ranked
from amfs_core.ranking.postings import Postings
from amfs_core.ranking.terms import query_terms

__all__ = [
    "NOBODY",
    "Frequencies",
    "Neighbours",
    "Postings",
    "Ranked",
    "Worths",
    "bm25",
    "fusion",
    "postings",
    "query_terms",
    "terms",
]
