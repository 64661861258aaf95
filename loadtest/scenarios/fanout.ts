import { conductPublishing, joinPublishing } from '../publish-scenario.ts'
import type { Scenario } from '../scenario.ts'

/** Every message goes to all subscribers. */
export const fanout: Scenario = {
  name: 'fanout',
  help: 'publishers to one topic, all subscribers get each message (1 to 500)',
  defaults: { publishers: 1, subscribers: 500, qos: 0, sizeBytes: 16, window: 10 },
  linked: true,
  join: generator =>
    joinPublishing(generator, {
      subscriptionFilter: prefix => `${prefix}/fan`,
      publishTopic: prefix => `${prefix}/fan`,
      copies: 'all',
    }),
  conduct: (fleet, options) => conductPublishing(fleet, options, 'fanout'),
}
