/** `npm run bench:state`: what SET and GET of the state store cost beside a QoS 1 message, as ratios (docs/benchmarks.md). */
import { areGoalsReached, authMarkdown, progressText } from './compare-auth-table.ts'
import { runComparison } from './compare-command.ts'
import { memoryPeers, statePlan, storedPeers } from './compare-state-plan.ts'
import { millrace, standalone } from './peers/millrace.ts'
import { sameProcess } from './peers/same-process.ts'

await runComparison({
  usage: 'usage: npm run bench:state -- [flags]',
  plan: statePlan,
  peers: [...sameProcess(standalone, memoryPeers), ...sameProcess(millrace, storedPeers)],
  presets: { rounds: 5, durationS: [2, 1], warmupS: [1, 0.7] },
  progress: progressText,
  markdown: authMarkdown,
  isKept: areGoalsReached,
})
