/** `npm run bench`: Millrace, Mosquitto and Aedes side by side, round by round, as ratios (docs/benchmarks.md). */
import { runComparison } from './compare-command.ts'
import { plan } from './compare-plan.ts'
import { comparisonMarkdown, figureOf, ratioOf } from './compare-table.ts'
import { aedes } from './peers/aedes.ts'
import { millrace } from './peers/millrace.ts'
import { mosquitto } from './peers/mosquitto.ts'

await runComparison({
  usage: 'usage: npm run bench -- [flags]',
  plan,
  peers: [millrace, mosquitto, aedes],
  presets: { rounds: 3, durationS: [1.5, 0.7], warmupS: [0.7, 0.4] },
  progress: (measured, peers) => {
    const figures = peers.map(peer => `${peer} ${figureOf(measured, peer)?.toFixed(2) ?? '–'}`).join(', ')
    return `${figures}; ratio ${ratioOf(measured)?.toFixed(2) ?? '–'}`
  },
  markdown: comparisonMarkdown,
  isKept: null,
})
