// The explorer reads the HTTP API, without a library. Everything that comes from a store is text: it reaches
// the page through textContent, never as HTML.

const SVG = 'http://www.w3.org/2000/svg'
const $ = id => document.getElementById(id)
const state = { namespace: 'default', key: sessionStorage.getItem('amfs-key') || '', stream: null, seen: 0 }

// -- elements --------------------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name)
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute === 'on') for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler)
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(attribute, value)
  }
  node.append(...children.filter(child => child !== null && child !== undefined).map(child =>
    child instanceof Node ? child : document.createTextNode(String(child))))
  return node
}

function drawn(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name)
  for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value)
  node.append(...children)
  return node
}

function show(...children) {
  $('main').replaceChildren(...children.filter(child => child !== null))
}

function say(text) {
  $('message').textContent = text || ''
  $('message').hidden = !text
}

// -- the API ---------------------------------------------------------------------------------------------

const encoded = name => encodeURIComponent(name).replace(/^\.+$/, dots => '%2E'.repeat(dots.length))
const names = (path, key) => [...path.split('/'), key].map(encoded).join('/')
const headers = () => (state.key ? { authorization: `Bearer ${state.key}` } : {})

async function ask(resource, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== ''))
  const url = `v1/${encoded(state.namespace)}/${resource}${query.size ? `?${query}` : ''}`
  const answer = await fetch(url, { headers: headers(), cache: 'no-store' })
  if (answer.ok) return answer.json()
  const problem = await answer.json().catch(() => ({ detail: `the server answered with status ${answer.status}` }))
  $('key-form').hidden = answer.status !== 401
  throw new Error(problem.hint ? `${problem.detail}; ${problem.hint}` : problem.detail)
}

async function all(resource, parameters) {
  const entries = []
  let after = null
  do {
    const page = await ask(resource, { ...parameters, limit: 1000, after })
    entries.push(...page.entries)
    after = page.next
  } while (after !== null && entries.length < 10000)
  return entries
}

// -- places ----------------------------------------------------------------------------------------------

const link = (kind, ...rest) => `#/${[encoded(state.namespace), kind, ...rest].join('/')}`
const linkOf = entry => link('memory', names(entry.entity_path, entry.key))

let turn = 0
async function go() {
  const mine = ++turn
  const [namespace, kind, ...rest] = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent)
  if (['outcomes', 'overview'].includes(namespace)) return void (location.hash = link(namespace))
  if (namespace && namespace !== state.namespace) {
    state.namespace = namespace
    unfollow()
  }
  $('namespace').value = state.namespace
  $('to-outcomes').href = link('outcomes')
  $('to-overview').href = link('overview')
  say('')
  const views = { path: showPath, memory: showMemory, search: showSearch, outcomes: showOutcomes, overview: showOverview }
  try {
    await (views[kind] || showPath)(rest, () => mine === turn)
    await showTree(kind === 'memory' ? rest.slice(0, -1) : kind === 'path' ? rest : [], () => mine === turn)
  } catch (error) {
    if (mine === turn) say(error.message)
  }
}

async function showTree(open, isNew) {
  const { entity_paths: paths } = await ask('paths', { max_age: 2 })
  if (!isNew()) return
  const root = new Map()
  for (const path of paths) {
    let at = root
    for (const name of path.split('/')) {
      if (!at.has(name)) at.set(name, new Map())
      at = at.get(name)
    }
  }
  const branch = (children, above) => element('ul', {}, ...[...children].map(([name, below]) => {
    const path = [...above, name]
    const isCurrent = path.join('/') === open.join('/')
    const isOpen = path.every((name, index) => open[index] === name)
    return element('li', {},
      element('a', { href: link('path', ...path.map(encoded)), 'aria-current': isCurrent ? 'true' : null }, below.size ? `${name}/` : name),
      below.size && (isOpen || children.size * below.size < 40 || above.length === 0) ? branch(below, path) : null)
  }))
  $('tree').replaceChildren(root.size ? branch(root, []) : element('p', { class: 'faint' }, 'no memories yet'))
}

const excerpt = value => (typeof value === 'string' ? value : JSON.stringify(value)).slice(0, 300)
const when = text => element('time', { datetime: text, title: text }, new Date(text).toLocaleString())

function listed(entries) {
  if (!entries.length) return element('p', { class: 'faint' }, 'no memories here')
  return element('ul', { class: 'memories' }, ...entries.map(entry => element('li', {},
    element('a', { href: linkOf(entry) },
      element('strong', {}, `${entry.entity_path}/${entry.key}`), ' ',
      element('span', { class: 'faint' }, `v${entry.version} · ${entry.provenance.agent_id} · `), when(entry.provenance.written_at),
      element('div', { class: 'excerpt' }, excerpt(entry.value))))))
}

async function showPath(path, isNew) {
  const under = path.join('/')
  const entries = await all('memories', { under: under || null })
  if (!isNew()) return
  show(element('h2', {}, under || 'all memories', element('span', { class: 'faint' }, ` · ${entries.length}`)), listed(entries))
}

async function showSearch(words, isNew) {
  const query = words.join('/')
  const { hits } = await ask('search', { q: query, limit: 50 })
  if (!isNew()) return
  show(element('h2', {}, query ? `“${query}”` : 'newest', element('span', { class: 'faint' }, ` · ${hits.length}`)), listed(hits))
}

// -- one memory ------------------------------------------------------------------------------------------

async function showMemory(place, isNew) {
  const key = place.at(-1)
  const path = place.slice(0, -1).join('/')
  const versions = await all(`history/${names(path, key)}`, {})
  if (!isNew()) return
  const newest = versions.at(-1)
  let [left, right] = [versions.at(-2) || null, newest]
  const body = element('div')
  const choose = (version, isLeft) => {
    if (isLeft) left = version
    else right = version
    render()
  }
  const buttons = isLeft => element('div', { class: 'versions' }, ...versions.map(version => element('button', {
    type: 'button', 'data-version': version.version,
    'aria-pressed': String((isLeft ? left : right) === version),
    title: `${version.provenance.agent_id}, ${version.provenance.written_at}`,
    on: { click: () => choose(version, isLeft) },
  }, version.deleted ? `v${version.version} ×` : `v${version.version}`)))
  function render() {
    body.replaceChildren(...[
      element('h2', {}, 'value of ', buttons(false)),
      right.deleted ? element('p', { class: 'faint' }, 'deleted') : element('pre', { id: 'value' }, pretty(right.value)),
      about(right),
      left ? element('h2', {}, 'difference from ', buttons(true)) : null,
      left ? difference(left, right) : null,
    ].filter(Boolean))
  }
  render()
  show(
    element('h2', { id: 'name' }, `${path}/${key}`),
    versions.length > 1 ? element('h2', {}, 'confidence') : null,
    versions.length > 1 ? confidence(versions) : null,
    body)
}

const pretty = value => (typeof value === 'string' ? value : JSON.stringify(value, null, 2))

function about(entry) {
  const { provenance } = entry
  const facts = [
    ['written', when(provenance.written_at)], ['by', provenance.agent_id], ['session', provenance.session_id],
    ['confidence', entry.confidence.toFixed(3)], ['type', entry.memory_type], ['tags', entry.tags.join(', ') || '–'],
    ['evidence', `${entry.evidence.successes} for, ${entry.evidence.failures} against`],
    ['outcome', provenance.outcome_ref || null], ['expires', entry.expires_at],
  ]
  return element('dl', {}, ...facts.filter(([, value]) => value !== null && value !== undefined)
    .flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]))
}

function difference(left, right) {
  const [before, after] = [left, right].map(version => (version.deleted ? [] : pretty(version.value).split('\n')))
  const rows = lines(before, after)
  return element('table', { class: 'difference' }, element('tbody', {}, ...rows.map(([old, current]) => element('tr', {},
    element('td', { class: current === old || old === null ? '' : 'removed' }, old ?? ''),
    element('td', { class: current === old || current === null ? '' : 'added' }, current ?? '')))))
}

// Return pairs of lines by their longest common subsequence; very long texts are paired by line number.
function lines(before, after) {
  if (before.length * after.length > 4e6) return Array.from({ length: Math.max(before.length, after.length) }, (_, index) => [before[index] ?? null, after[index] ?? null])
  const width = after.length + 1
  const common = new Uint32Array((before.length + 1) * width)
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      common[i * width + j] = before[i] === after[j] ? common[(i + 1) * width + j + 1] + 1 : Math.max(common[(i + 1) * width + j], common[i * width + j + 1])
    }
  }
  const rows = []
  let [i, j] = [0, 0]
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) rows.push([before[i++], after[j++]])
    else if (j >= after.length || (i < before.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) rows.push([before[i++], null])
    else rows.push([null, after[j++]])
  }
  return rows
}

// -- pictures --------------------------------------------------------------------------------------------

function confidence(versions) {
  const [width, height] = [600, 120]
  const x = index => 30 + (index / Math.max(1, versions.length - 1)) * (width - 50)
  const y = value => 10 + (1 - value) * (height - 30)
  const points = versions.map((version, index) => `${x(index)},${y(version.confidence)}`)
  return drawn('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': 'confidence by version' },
    ...[0, 0.5, 1].flatMap(value => [
      drawn('line', { x1: 30, x2: width - 20, y1: y(value), y2: y(value), class: 'axis' }),
      drawn('text', { x: 4, y: y(value) + 4 }, String(value))]),
    drawn('polyline', { points: points.join(' '), class: 'stroke' }),
    ...versions.map((version, index) => drawn('circle', { cx: x(index), cy: y(version.confidence), r: 3, class: 'fill' },
      drawn('title', {}, `v${version.version}: ${version.confidence}`))))
}

function bars(counts, label) {
  const rows = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 20)
  const most = Math.max(1, ...rows.map(([, count]) => count))
  return drawn('svg', { viewBox: `0 0 600 ${rows.length * 22 + 4}`, role: 'img', 'aria-label': label },
    ...rows.flatMap(([name, count], index) => [
      drawn('text', { x: 0, y: index * 22 + 15 }, name.length > 28 ? `${name.slice(0, 27)}…` : name),
      drawn('rect', { x: 190, y: index * 22 + 4, width: Math.max(1, (count / most) * 340), height: 14, class: 'fill' }),
      drawn('text', { x: 540, y: index * 22 + 15 }, String(count))]))
}

function growth(entries) {
  const times = entries.map(entry => Date.parse(entry.provenance.written_at)).sort((a, b) => a - b)
  if (times.length < 2) return null
  const [first, last] = [times[0], times.at(-1)]
  const points = times.map((time, index) => `${10 + ((time - first) / Math.max(1, last - first)) * 580},${110 - ((index + 1) / times.length) * 100}`)
  return drawn('svg', { viewBox: '0 0 600 130', role: 'img', 'aria-label': 'growth' },
    drawn('polyline', { points: `10,110 ${points.join(' ')}`, class: 'stroke' }),
    drawn('text', { x: 10, y: 126 }, new Date(first).toLocaleString()),
    drawn('text', { x: 590, y: 126, 'text-anchor': 'end' }, new Date(last).toLocaleString()),
    drawn('text', { x: 14, y: 14 }, String(times.length)))
}

async function showOverview(_, isNew) {
  const [entries, stats] = await Promise.all([all('memories', {}), ask('stats')])
  if (!isNew()) return
  const count = of => entries.reduce((counts, entry) => counts.set(of(entry), (counts.get(of(entry)) || 0) + 1), new Map())
  show(
    element('h2', {}, 'overview'),
    element('dl', {}, ...Object.entries(stats).filter(([, value]) => typeof value === 'number')
      .flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value.toLocaleString())])),
    element('h2', {}, 'growth: newest versions by time'), growth(entries),
    element('h2', {}, 'agents'), bars(count(entry => entry.provenance.agent_id), 'memories by agent'),
    element('h2', {}, 'types'), bars(count(entry => entry.memory_type), 'memories by type'))
}

async function showOutcomes(_, isNew) {
  const { outcomes } = await ask('outcomes')
  if (!isNew()) return
  show(element('h2', {}, 'outcomes', element('span', { class: 'faint' }, ` · ${outcomes.length}`)),
    element('ul', { class: 'memories' }, ...outcomes.reverse().map(outcome => element('li', {},
      element('strong', {}, outcome.ref), ` ${outcome.type} `, element('span', { class: 'faint' }, outcome.agent_id, ' · '), when(outcome.committed_at),
      ...outcome.causes.map(cause => element('a', { href: linkOf(cause) }, `${cause.entity_path}/${cause.key} v${cause.version}`))))))
}

// -- live ------------------------------------------------------------------------------------------------

async function follow() {
  const stop = new AbortController()
  state.stream = stop
  $('live').setAttribute('aria-pressed', 'true')
  $('changes').hidden = false
  $('columns').classList.add('live')
  let last = null
  while (!stop.signal.aborted) {
    try {
      // fetch, because an EventSource cannot send a key.
      const answer = await fetch(`v1/${encoded(state.namespace)}/watch`, { headers: { ...headers(), ...(last ? { 'last-event-id': last } : {}) }, signal: stop.signal })
      if (!answer.ok) {
        if (answer.status === 410) last = null
        throw new Error(`the server answered with status ${answer.status}`)
      }
      $('live').dataset.open = 'true'
      let rest = ''
      for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
        const events = (rest + part).split('\n\n')
        rest = events.pop()
        for (const event of events) {
          const fields = Object.fromEntries(event.split('\n').map(line => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]))
          if (fields.id) last = fields.id
          if (fields.data) changed(JSON.parse(fields.data))
        }
      }
    } catch (error) {
      if (stop.signal.aborted) return
      say(`no live changes right now, trying again: ${error.message}`)
    }
    await new Promise(resolve => setTimeout(resolve, 1500))
  }
}

function unfollow() {
  state.stream?.abort()
  state.stream = null
  delete $('live').dataset.open
  $('live').setAttribute('aria-pressed', 'false')
  $('changes').hidden = true
  $('columns').classList.remove('live')
}

let refresh = 0
function changed(entry) {
  $('change-list').prepend(element('li', {},
    element('a', { href: linkOf(entry) }, `${entry.entity_path}/${entry.key}`), ` v${entry.version} `,
    element('span', { class: 'faint' }, entry.deleted ? 'deleted' : excerpt(entry.value).slice(0, 80))))
  while ($('change-list').children.length > 100) $('change-list').lastChild.remove()
  clearTimeout(refresh)
  refresh = setTimeout(go, 400)
}

// -- input -----------------------------------------------------------------------------------------------

let typing = 0
$('search').addEventListener('input', () => {
  clearTimeout(typing)
  typing = setTimeout(() => location.replace(link('search', encoded($('search').value))), 150)
})
$('namespace').addEventListener('change', () => {
  location.hash = `#/${encoded($('namespace').value || 'default')}/path`
})
$('live').addEventListener('click', () => (state.stream ? unfollow() : follow()))
$('key-form').addEventListener('submit', event => {
  event.preventDefault()
  state.key = $('key').value.trim()
  sessionStorage.setItem('amfs-key', state.key)
  $('key-form').hidden = true
  go()
})

function move(step) {
  const items = [...document.querySelectorAll('.memories li')]
  if (!items.length) return
  const at = items.findIndex(item => item.classList.contains('chosen'))
  items[at]?.classList.remove('chosen')
  const next = items[Math.min(items.length - 1, Math.max(0, at + step))]
  next.classList.add('chosen')
  next.scrollIntoView({ block: 'nearest' })
}

document.addEventListener('keydown', event => {
  if (event.key === 'Escape') return document.activeElement.tagName === 'INPUT' ? document.activeElement.blur() : history.back()
  if (event.target.tagName === 'INPUT' || event.ctrlKey || event.metaKey || event.altKey) return
  const keys = {
    '/': () => $('search').focus(), j: () => move(1), k: () => move(-1), ArrowDown: () => move(1), ArrowUp: () => move(-1),
    l: () => $('live').click(), Enter: () => document.querySelector('.memories li.chosen a')?.click(),
  }
  if (!keys[event.key] || (event.key === 'Enter' && event.target !== document.body && event.target !== $('main'))) return
  event.preventDefault()
  keys[event.key]()
})

addEventListener('hashchange', go)
go()
