import { conductPublishing, joinPublishing } from '../publish-scenario.ts'
import type { Scenario } from '../scenario.ts'

/** Each message goes to one member of a Shared Subscription (§4.8.2). */
export const shared: Scenario = {
  name: 'shared',
  help: 'many publishers to one shared group (200 to 5)',
  defaults: { publishers: 200, subscribers: 5, qos: 1, sizeBytes: 64, window: 20 },
  linked: true,
  join: generator =>
    joinPublishing(generator, {
      subscriptionFilter: prefix => `$share/g/${prefix}/in/+`,
      publishTopic: (prefix, publisher) => `${prefix}/in/${publisher}`,
      copies: 'one',
    }),
  conduct: (fleet, options) => conductPublishing(fleet, options, 'shared'),
}
