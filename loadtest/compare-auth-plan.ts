import type { ScenarioRow } from './compare-rounds.ts'

/**
 * What a goal is about:
 *   cost       CPU of subject for a message, divided by that of reference in the same round
 *   rate       connects per CPU second of subject, divided by those of reference in the same round
 *   loopP99Ms  how late the event loop of the process that has the clients was
 *   cpuS       CPU seconds in all
 */
export type AuthFigure = 'cost' | 'rate' | 'loopP99Ms' | 'cpuS'

/** A figure is at most `max`, or at least `min`; neither: it is only shown. */
export interface AuthGoal {
  readonly figure: AuthFigure
  readonly subject: string
  readonly reference?: string
  readonly max?: number
  readonly min?: number
}

export interface AuthRow extends ScenarioRow {
  readonly goals: readonly AuthGoal[]
}

/** A rule may cost so much of a message, whatever the number of rules. */
const RULES_MAX = 1.05
const CONNECTS_MIN = 0.8
const CONNECT_S = 4
/** Connects are few beside messages: what runs for each of them is compiled only after some thousands. */
const CONNECT_WARMUP_S = 4

const RULED = ['no-rules', 'rules-100', 'rules-10000', 'rules-100-uncached']
const RULED_GOALS: readonly AuthGoal[] = [
  { figure: 'cost', subject: 'rules-100', reference: 'no-rules', max: RULES_MAX },
  { figure: 'cost', subject: 'rules-10000', reference: 'no-rules', max: RULES_MAX },
  { figure: 'cost', subject: 'rules-100-uncached', reference: 'no-rules' },
]
const CONNECTING = ['bare-tls', 'standalone', 'cluster']
const CONNECT_GOALS: readonly AuthGoal[] = [
  { figure: 'rate', subject: 'standalone', reference: 'bare-tls', min: CONNECTS_MIN },
  { figure: 'rate', subject: 'cluster', reference: 'bare-tls', min: CONNECTS_MIN },
]

export const authPlan: readonly AuthRow[] = [
  {
    key: 'rules-q0',
    title: '100 → 100 pairs, 8 topics each, QoS 0, 64 B, 20 in flight',
    scenario: 'topics',
    set: { qos: 0 },
    peers: RULED,
    goals: RULED_GOALS,
  },
  { key: 'rules-q1', title: 'the same, QoS 1', scenario: 'topics', set: { qos: 1 }, peers: RULED, goals: RULED_GOALS },
  {
    key: 'connect',
    title: 'mTLS connects, 500 devices that come back',
    scenario: 'connect',
    set: { connections: 500 },
    durationS: CONNECT_S,
    warmupS: CONNECT_WARMUP_S,
    peers: CONNECTING,
    goals: CONNECT_GOALS,
  },
  {
    key: 'connect-new',
    title: 'mTLS connects, each with a certificate never seen before',
    scenario: 'connect',
    set: { connections: 0 },
    durationS: CONNECT_S,
    warmupS: CONNECT_WARMUP_S,
    peers: CONNECTING,
    goals: CONNECT_GOALS,
  },
  {
    key: 'connect-paced',
    title: 'mTLS connects, 150 a second for 20 s, each with a new certificate',
    scenario: 'connect',
    set: { connections: 0, ratePerS: 150 },
    durationS: 20,
    roundsMax: 1,
    peers: ['standalone', 'cluster'],
    goals: [
      { figure: 'loopP99Ms', subject: 'standalone', max: 20 },
      { figure: 'loopP99Ms', subject: 'cluster', max: 20 },
    ],
  },
  {
    key: 'policies',
    title: 'a policy file of 10,000 rules is exchanged',
    scenario: 'policies',
    set: {},
    peers: ['rules-10000'],
    goals: [{ figure: 'cpuS', subject: 'rules-10000', max: 1 }],
  },
  {
    key: 'passwords',
    title: 'logins with a password (argon2id as `millrace passwd` makes it)',
    scenario: 'connect',
    set: {},
    durationS: 3,
    roundsMax: 1,
    peers: ['passwords'],
    goals: [],
  },
]
