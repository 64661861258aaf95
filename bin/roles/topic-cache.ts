import type { BrokerLimits } from '#shared/config/broker-settings.ts'
import { TopicCache } from '#shared/mqtt/topic.ts'

/** Topics whose bytes are known in one process, so that a message makes no string. */
const TOPICS_CACHED_MAX = 131_072

/** Of a process: frontend and backend of one share it. */
export function openTopicCache({ topicLevelsMax }: BrokerLimits): TopicCache {
  return new TopicCache({ topicsMax: TOPICS_CACHED_MAX, levelsMax: topicLevelsMax })
}
