import { conductPublishing, joinPublishing } from '../publish-scenario.ts'
import type { Layout } from '../publish-scenario.ts'
import type { Generator, Scenario } from '../scenario.ts'

const layout: Layout = {
  subscriptionFilter: (prefix, subscriber) => `${prefix}/p2p/${subscriber}`,
  publishTopic: (prefix, publisher) => `${prefix}/p2p/${publisher}`,
  copies: 'one',
}

/** A pair is one publisher and one subscriber, whatever was asked for. */
function paired(generator: Generator): Generator {
  return { ...generator, options: { ...generator.options, subscribers: generator.options.publishers } }
}

/** Each publisher has a topic and a subscriber of its own. */
export const pairs: Scenario = {
  name: 'pairs',
  help: 'as many publishers as subscribers, one topic each (100 to 100)',
  defaults: { publishers: 100, subscribers: 100, qos: 0, sizeBytes: 64, window: 20 },
  join: generator => joinPublishing(paired(generator), layout),
  conduct: (fleet, options) => conductPublishing(fleet, options, 'pairs'),
}

/** Pairs whose publishers have several topics, used in turn, each with the publisher's Client Identifier in it. */
export const topics: Scenario = {
  name: 'topics',
  help: 'pairs whose publishers use --topics (8) topics in turn',
  defaults: { publishers: 100, subscribers: 100, topics: 8, qos: 0, sizeBytes: 64, window: 20 },
  join: generator =>
    joinPublishing(paired(generator), {
      subscriptionFilter: (prefix, subscriber) => `${prefix}/data/${prefix}-p${subscriber}/+`,
      publishTopic: (prefix, publisher, topic) => `${prefix}/data/${prefix}-p${publisher}/t${topic}`,
      copies: 'one',
    }),
  conduct: (fleet, options) => conductPublishing(fleet, options, 'topics'),
}

/** Pairs whose subscribers have sessions that outlive the connection, so that the broker must store each message. */
export const durable: Scenario = {
  name: 'durable',
  help: 'pairs at QoS 1 whose subscribers have persistent sessions (50 to 50)',
  defaults: { publishers: 50, subscribers: 50, qos: 1, sizeBytes: 64, window: 20, persistent: true },
  join: generator => joinPublishing(paired(generator), layout),
  conduct: (fleet, options) => conductPublishing(fleet, options, 'durable'),
}
