/** `npm run bench:auth`: what rules cost a message, and what it costs to let a client in, as ratios (docs/benchmarks.md). */
import { authPlan } from './compare-auth-plan.ts'
import { areGoalsReached, authMarkdown, progressText } from './compare-auth-table.ts'
import { runComparison } from './compare-command.ts'
import { bareTls, clusterX509, standaloneX509 } from './peers/connecting.ts'
import { ruledPorts } from './peers/ruled-ports.ts'

await runComparison({
  usage: 'usage: npm run bench:auth -- [flags]',
  plan: authPlan,
  peers: [...ruledPorts, bareTls, standaloneX509, clusterX509],
  presets: { rounds: 3, durationS: [1.5, 0.7], warmupS: [0.7, 0.4] },
  progress: progressText,
  markdown: authMarkdown,
  isKept: areGoalsReached,
})
