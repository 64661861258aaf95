import { beforeAll, describe, expect, test } from 'vitest'
import { type BrokerUnderTest, CLIENTS_TIMEOUT_MS } from './broker-under-test.ts'
import { publish, publishBytes, Subscriber } from './mosquitto.ts'

const VERSIONS = ['mqttv31', 'mqttv311', 'mqttv5'] as const
type Version = (typeof VERSIONS)[number]

/** What mosquitto_pub and mosquitto_sub see of every broker; registers the tests. `open` is called once. */
export function describeMosquitto(broker: string, open: () => Promise<BrokerUnderTest>): void {
  describe(`mosquitto_pub and mosquitto_sub with ${broker}`, { timeout: CLIENTS_TIMEOUT_MS }, () => {
    let subject: BrokerUnderTest
    beforeAll(async () => {
      subject = await open()
    }, CLIENTS_TIMEOUT_MS)

    describeMessages(() => subject)
    describe.each(VERSIONS)('%s', version => describeState(() => subject.ports.mqtt, version))
  })
}

function describeMessages(subject: () => BrokerUnderTest): void {
  test('every version to every version at every QoS', async () => {
    const { mqtt } = subject().ports
    await Promise.all(
      VERSIONS.map(async version => {
        const subscriber = await Subscriber.open(mqtt, '-V', version, '-q', '2', '-t', `${version}/#`, '-F', '%t %q %p', '-C', '9')
        for (const from of VERSIONS) {
          for (const qos of ['0', '1', '2']) await publish(mqtt, '-V', from, '-q', qos, '-t', `${version}/${from}`, '-m', `m${qos}`)
        }
        const sent = VERSIONS.flatMap(from => [0, 1, 2].map(qos => `${version}/${from} ${qos} m${qos}`))
        // Each came from another client, and between clients no order is promised (§4.6).
        expect((await subscriber.messages()).toSorted()).toEqual(sent.toSorted())
      }),
    )
  })

  test('$share: each message to one of the group', async () => {
    const { mqtt } = subject().ports
    const group = await Promise.all(
      ['mqttv5', 'mqttv311'].map(version => Subscriber.open(mqtt, '-V', version, '-q', '1', '-t', '$share/group/shared-work')),
    )
    const received = (): readonly string[] => group.flatMap(member => member.received)
    for (let i = 0; i < 10; i++) await publish(mqtt, '-q', '1', '-t', 'shared-work', '-m', String(i))
    while (received().length < 10) await Promise.race(group.map(member => member.more()))
    expect(received().toSorted()).toEqual(Array.from({ length: 10 }, (_, i) => String(i)))
    for (const member of group) expect(member.received).not.toEqual([])
  })

  test('MQTT 5 properties arrive as they were sent', async () => {
    const { mqtt } = subject().ports
    const subscriber = await Subscriber.open(mqtt, '-V', 'mqttv5', '-t', 'properties', '-F', '%C %R %D %P %E %p', '-C', '1')
    const properties: readonly (readonly string[])[] = [
      ['content-type', 'text/plain'],
      ['response-topic', 'answers'],
      ['correlation-data', 'c1'],
      ['user-property', 'k', 'v'],
      ['message-expiry-interval', '100'],
    ]
    await publish(mqtt, '-V', 'mqttv5', '-t', 'properties', '-m', 'x', ...properties.flatMap(each => ['-D', 'PUBLISH', ...each]))
    expect(await subscriber.messages()).toEqual(['text/plain answers c1 k:v 100 x'])
  })

  test('TLS, and no connection where another authority is trusted', async () => {
    const { ports, pki } = subject()
    const subscriber = await Subscriber.open(ports.mqtts, '--cafile', pki.ca, '-q', '1', '-t', 'secret', '-C', '1')
    await publish(ports.mqtts, '--cafile', pki.ca, '-V', 'mqttv5', '-q', '1', '-t', 'secret', '-m', 'whisper')
    expect(await subscriber.messages()).toEqual(['whisper'])
    await expect(publish(ports.mqtts, '--cafile', pki.memberCa, '-q', '1', '-t', 'secret', '-m', 'x')).rejects.toThrow()
  })

  test('a payload of 10 MB, both ways', async () => {
    const { mqtt } = subject().ports
    const subscriber = await Subscriber.open(mqtt, '-q', '1', '-t', 'big', '-F', '%l', '-C', '1')
    await publishBytes(mqtt, Buffer.alloc(10_000_000, 'x'), '-q', '1', '-t', 'big')
    expect(await subscriber.messages()).toEqual(['10000000'])
  })
}

function describeState(mqtt: () => number, version: Version): void {
  const topicOf = (name: string): string => `state/${version}/${name}`

  test('Retained Messages, and their end', async () => {
    await publish(mqtt(), '-V', version, '-r', '-q', '1', '-t', topicOf('retained'), '-m', 'kept')
    const first = await Subscriber.open(mqtt(), '-V', version, '-t', topicOf('retained'), '-F', '%r %p', '-C', '1')
    expect(await first.messages()).toEqual(['1 kept'])
    await publish(mqtt(), '-V', version, '-r', '-q', '1', '-n', '-t', topicOf('retained'))
    const nothing = new Subscriber(mqtt(), ['-V', version, '-t', topicOf('retained'), '--retained-only', '-E'])
    expect(await nothing.messages()).toEqual([])
  })

  test('a Will', async () => {
    const witness = await Subscriber.open(mqtt(), '-V', version, '-q', '2', '-t', topicOf('will'), '-F', '%t %p', '-C', '1')
    const will = ['--will-topic', topicOf('will'), '--will-payload', 'gone', '--will-qos', '2']
    const dying = await Subscriber.open(mqtt(), '-V', version, '-i', `dying-${version}`, '-t', topicOf('other'), ...will)
    await dying.kill()
    expect(await witness.messages()).toEqual([`${topicOf('will')} gone`])
  })

  test('a session that was away', async () => {
    const expiry = version === 'mqttv5' ? ['-x', '1000'] : []
    const session = ['-V', version, '-i', `away-${version}`, '-c', '-q', '1', '-t', topicOf('away'), ...expiry]
    await new Subscriber(mqtt(), [...session, '-E']).messages()
    for (const payload of ['1', '2']) await publish(mqtt(), '-V', version, '-q', '1', '-t', topicOf('away'), '-m', payload)
    const back = new Subscriber(mqtt(), [...session, '-C', '2'])
    expect(await back.messages()).toEqual(['1', '2'])
  })
}
