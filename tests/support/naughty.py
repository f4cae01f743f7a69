"""Strings that break software: our own list. Each is tried as entity, key and value."""

from __future__ import annotations

RESERVED_WORDS = (
    "undefined", "undef", "null", "NULL", "nil", "None", "none", "true", "True", "FALSE",
    "NaN", "Infinity", "-Infinity", "hasOwnProperty", "__proto__", "constructor",
    "prototype", "__class__", "__init__", "then", "self", "this", "default", "entries",
    "outcomes", "amfs", "beginning",
)  # fmt: skip
NUMBERS = (
    "0", "-0", "00", "1", "-1", "1.0", "1e1000", "0x10", "0b1", "1_000", "1,000.00",
    "1/2", "1/0", "-9223372036854775808", "9" * 60, "٠١٢٣", "１２３", "½", "²", "1 000",
)  # fmt: skip
LAYOUT_NAMES = (
    "v1.json", "V1.JSON", "v0.json", "v01.json", "v10.json", "v1.json/v1.json", "v1",
    "v.json", "v-1.json", "v1.json.", "xv1.json", "v１.json", "v9999999999.json",
    ".amfs-tmp", ".amfs", "entries/e/k/v1.json", "default/entries",
)  # fmt: skip
PATHS = (
    ".", "..", "...", "../", "../..", "../../../../etc/passwd", "/", "//", "/etc/passwd",
    "a/../b", "a/./b", "a//b", "a/", "/a", "~", "~root", "$HOME", "${HOME}", "%HOME%",
    "-rf", "--", "*", "?", "[a-z]*", "C:\\Windows", "C:", "\\\\server\\share",
    "..\\..\\boot.ini", "file:///etc/passwd", ".git", ".htaccess", ".DS_Store",
    "Thumbs.db", "trailing.", "trailing ", " leading", "a\\b",
)  # fmt: skip
DEVICES = (
    "CON", "PRN", "AUX", "NUL", "nul.txt", "COM1", "LPT9", "CONIN$", "CLOCK$", "con.json",
)  # fmt: skip
PERCENT = (
    "%", "%%", "%2", "%2F", "%2f", "%2E%2E", "%00", "%0A", "%25", "%252F", "%ZZ",
    "%u002e", "%C0%AF", "%E2%80%A8", "%ED%A0%80", "%s", "%n", "%d%s%p", "{0}", "{}",
    "{{x}}", "a+b c%20d", "%2Ehidden",
)  # fmt: skip
WHITESPACE = (
    " ", "  ", "\t", "\n", "\r\n", "a\nb", "a\tb", "\x0b", "\x0c", "\x85", "\xa0",
    "\u2000", "\u2028", "\u2029", "\u3000", "\ufeff", "\u200b", "a\u200bb", "\u180e",
    "\u2060", "\xad",
)  # fmt: skip
CONTROL = (
    "\x00", "a\x00b", "\x01\x02\x03", "\x07\x08", "\x1b[31mred\x1b[0m", "\x1a", "\x7f",
    "\x80\x9f", "".join(map(chr, range(32))), "\x04", "\ufffe", "\uffff", "\ufdd0",
    "\U0001fffe", "\U0010ffff", "\ufffd", "\ue000",
)  # fmt: skip
SCRIPTS = (
    "Grüße", "É", "E\u0301", "ﬁ", "ſ", "ẞ", "İ", "ı", "\u00c5", "\u212b", "\u03a9",
    "\u2126", "\u03ac", "\u1f71", "中文", "日本語テスト", "パーティーへ行かないか",
    "한국어", "한", "ไทย",
    "नमस्ते", "தமிழ்", "עברית", "العربية", "ﷺ", "ﷲ", "ᚠᛇᚻ", "𝕬𝖒𝖋𝖘", "𐐷", "ꙮ", "꧅",
    "ÅÄÖ åäö",
    "Ṱ\u033a\u033a\u0315o\u035e \u0337i\u0332\u032cn\u031d\u0317v\u031f\u031co\u0318k\u0353\u0331e",
    "Z" + "\u0351" * 60, "ʎɐqǝ ɐuƃɐɯ", "❝quotes❞ \u201elow\u201c «angle»", "(╯°□°)╯︵ ┻━┻",
)  # fmt: skip
BIDI = (
    "\u202eevil\u202c", "\u2066\u2067x\u2069", "\u200frtl\u200f", "\u202dltr",
    "مرحبا abc 123", "a\u061cb",
)  # fmt: skip
EMOJI = (
    "😀", "👩🏽\u200d💻", "👨\u200d👩\u200d👧\u200d👦", "🏴\u200d☠️", "🇩🇪🇯🇵",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "1️⃣", "❤️", "❤",
    "✋🏿" * 10,
)  # fmt: skip
INJECTIONS = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&amp;&lt;&#0;",
    "<![CDATA[x]]>", "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>",
    "'; DROP TABLE entries; --", "' OR 1=1 --", '" OR ""="', "1;SELECT pg_sleep(9)",
    '{"$gt": ""}', "$(touch /tmp/x)", "`id`", "| cat /etc/passwd", "&& true", "; ls",
    "> out", "${jndi:ldap://x}", "{{7*7}}", "<%= 7*7 %>", '","sha256":"', '"}', "\\",
    "\\\\", "\\u0000", "\\ud800", '"', "'", "`", "a=b&c=d", "#", "a?b#c",
    "http://a/%%30%30", "data:text/html,x", "Content-Type: x\r\n\r\n", "=1+1", "@SUM(1)",
    "!include", "&anchor *alias", "- yaml: [", "x: |", "AND OR NOT NEAR(", '"unclosed',
    "col:term*", "^caret",
)  # fmt: skip
LONG = (
    "x" * 255, "x" * 256, "x" * 5000, "é" * 127, "é" * 128, "漢" * 85, "漢" * 86, "😀" * 63,
    "😀" * 64, "%" * 85, "%" * 86, "/".join("abcdefgh"), "/".join(["x" * 200] * 5),
    "a/" * 600 + "a", "." * 86,
)  # fmt: skip
SURROGATES = ("\ud800", "\udfff", "a\ud83d", "\ude00a", "\ude00\ud83d", "a/\udc80/b")
EMPTY = ("",)

NAUGHTY = tuple(
    dict.fromkeys(
        RESERVED_WORDS
        + NUMBERS
        + LAYOUT_NAMES
        + PATHS
        + DEVICES
        + PERCENT
        + WHITESPACE
        + CONTROL
        + SCRIPTS
        + BIDI
        + EMOJI
        + INJECTIONS
        + LONG
        + SURROGATES
        + EMPTY
    )
)
