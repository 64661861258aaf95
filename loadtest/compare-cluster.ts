/** `npm run bench:cluster`: a cluster beside Millrace standalone and Mosquitto, round by round, as ratios (docs/benchmarks.md). */
import { clusterPlan } from './compare-cluster-plan.ts'
import { areGoalsReached, clusterMarkdown, progressText } from './compare-cluster-table.ts'
import { runComparison } from './compare-command.ts'
import { clusterMemory, clusterReplicated } from './peers/cluster.ts'
import { standalone } from './peers/millrace.ts'
import { mosquitto } from './peers/mosquitto.ts'

await runComparison({
  usage: 'usage: npm run bench:cluster -- [flags]',
  plan: clusterPlan,
  peers: [standalone, clusterMemory, clusterReplicated, mosquitto],
  presets: { rounds: 3, durationS: [2, 0.7], warmupS: [1.5, 0.7] },
  progress: progressText,
  markdown: clusterMarkdown,
  isKept: areGoalsReached,
})
