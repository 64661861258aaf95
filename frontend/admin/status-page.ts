/** The page is text in the program: no build, no file to find, nothing from another host. */
export const STATUS_PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Millrace</title>
<link rel="stylesheet" href="/status.css">
<script src="/status.js" defer></script>
</head>
<body>
<header><h1>Millrace</h1><p id="state" role="status">Reading …</p></header>
<main>
<dl id="figures"></dl>
<table>
<caption>Ports</caption>
<thead><tr><th scope="col">Address</th><th scope="col">Speaks</th><th scope="col">Engine</th><th scope="col">State</th></tr></thead>
<tbody id="listeners"></tbody>
</table>
</main>
<footer><a href="/api/v1/status">/api/v1/status</a></footer>
</body>
</html>
`

export const STATUS_STYLE = `:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
header { display: flex; align-items: baseline; gap: 1rem; }
h1 { margin: 0; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem; }
dl div { border: 1px solid color-mix(in srgb, currentColor 25%, transparent); border-radius: .5rem; padding: .75rem 1rem; }
dt { opacity: .75; }
dd { margin: 0; font-size: 1.6rem; font-variant-numeric: tabular-nums; }
table { width: 100%; border-collapse: collapse; }
caption { text-align: left; font-weight: 600; }
th, td { text-align: left; padding: .35rem .5rem .35rem 0; border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent); }
`

/** Texts go in as text, never as HTML: names of ports come from files. */
export const STATUS_SCRIPT = `const INTERVAL_MS = 2000
let before = null

function rate(now, name) {
  if (before === null || now.uptimeSeconds <= before.uptimeSeconds) return '–'
  return Math.max(0, Math.round((now[name] - before[name]) / (now.uptimeSeconds - before.uptimeSeconds))).toLocaleString()
}

function duration(seconds) {
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']]
  const first = parts.findIndex(([unit]) => seconds >= unit)
  return first === -1 ? '0 s' : parts.slice(first, first + 2).map(([unit, name], index, kept) => {
    const inner = index === 0 ? seconds : seconds % kept[index - 1][0]
    return Math.floor(inner / unit) + ' ' + name
  }).join(' ')
}

function element(name, text) {
  const made = document.createElement(name)
  made.textContent = text
  return made
}

function figure([name, value]) {
  const box = document.createElement('div')
  box.append(element('dt', name), element('dd', value))
  return box
}

function row(listener) {
  const made = document.createElement('tr')
  const speaks = (listener.protocol === 'Mqtt' ? 'MQTT' : 'MQTT over WebSocket') + (listener.tls ? ', TLS' : '')
  const cells = [listener.address, speaks, listener.engine ?? '–', listener.closedReason ?? 'open']
  made.append(...cells.map(text => element('td', text)))
  return made
}

function show(now) {
  document.getElementById('state').textContent =
    'version ' + now.version + ', ' + (now.waitingFor.length === 0 ? 'serving' : 'waiting for ' + now.waitingFor.join(', '))
  document.getElementById('figures').replaceChildren(...[
    ['Up', duration(now.uptimeSeconds)],
    ['Connections', now.connections.toLocaleString()],
    ['Sessions', now.sessions.toLocaleString()],
    ['Subscriptions', now.subscriptions.toLocaleString()],
    ['Retained Messages', now.retainedMessages.toLocaleString()],
    ['Messages in, per second', rate(now, 'publishesReceived')],
    ['Messages out, per second', rate(now, 'publishesSent')],
    ['Memory, MiB', Math.round(now.residentBytes / 1048576).toLocaleString()],
  ].map(figure))
  document.getElementById('listeners').replaceChildren(...now.listeners.map(row))
  before = now
}

async function refresh() {
  try {
    const response = await fetch('/api/v1/status')
    if (!response.ok) throw new Error('status ' + response.status)
    show(await response.json())
  } catch (error) {
    document.getElementById('state').textContent = 'no answer: ' + error.message
    before = null
  }
  setTimeout(refresh, INTERVAL_MS)
}

refresh()
`
