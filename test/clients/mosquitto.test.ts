import { expect, test } from 'vitest'
import { createPki } from '#shared/config/pki.ts'
import { scratchDirectory, startBroker } from '../limits/real-broker.ts'
import { CLIENTS_TIMEOUT_MS, startStandalone } from './broker-under-test.ts'
import { describeMosquitto } from './mosquitto.contract.ts'
import { publish } from './mosquitto.ts'

describeMosquitto('a standalone broker', startStandalone)

test('mosquitto_pub shows a client certificate where one is asked for', { timeout: CLIENTS_TIMEOUT_MS }, async () => {
  const pki = await createPki(await scratchDirectory())
  const server = ['--tls-cert', pki.serverCert, '--tls-key', pki.serverKey, '--mqtts', '127.0.0.1:0']
  const port = (await startBroker(...server, '--tls-client-ca', pki.ca)).portOf('MQTT over TLS')
  await publish(port, '--cafile', pki.ca, '--cert', pki.clientCert, '--key', pki.clientKey, '-q', '1', '-t', 't', '-m', 'x')
  await expect(publish(port, '--cafile', pki.ca, '-q', '1', '-t', 't', '-m', 'x')).rejects.toThrow()
})
