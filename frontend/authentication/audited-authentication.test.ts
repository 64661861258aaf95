import { expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AuthenticationPort, AuthenticationRequest, Verdict } from '#shared/rpc/authentication.ts'
import type { AuditedAuthentication } from '#shared/telemetry/audit.ts'
import { AuditedAuthenticationPort } from './audited-authentication.ts'

const REQUEST: AuthenticationRequest = {
  purpose: 'connect',
  listener: 'l',
  policy: { authentication: { name: 'main', version: '1' }, authorizations: [] },
  remoteAddress: 'r',
  clientId: 'c',
  protocolVersion: 5,
  userName: 'claimed',
  password: Buffer.from('hunter2hunter2'),
  authenticationMethod: null,
  authenticationData: Buffer.from('token of somebody'),
  peerCertificates: null,
  sealedState: null,
  proof: null,
}
const WHO = { purpose: 'connect', listener: 'l', remoteAddress: 'r', clientId: 'c' }
const GRANT = { identity: { userName: 'proven', attributes: new Map<string, string>() }, permit: null, expiresMs: null }

test.each<[Verdict, object | null]>([
  [
    { is: 'accepted', grant: { ...GRANT, method: 'X509', authenticationData: null, proof: Buffer.alloc(0) } },
    { verdict: 'accepted', method: 'X509', userName: 'proven', reason: '', cause: '' },
  ],
  [
    { is: 'refused', reason: ReasonCode.NotAuthorized, detail: 'd', cause: 'why', method: 'Custom' },
    { verdict: 'refused', method: 'Custom', userName: '', reason: 'NotAuthorized', cause: 'why' },
  ],
  [
    { is: 'unavailable', cause: 'away' },
    { verdict: 'unavailable', method: 'none', userName: '', reason: '', cause: 'away' },
  ],
  [{ is: 'challenge', data: null, sealedState: Buffer.alloc(0) }, null],
])('%j', async (verdict, expected) => {
  const written: AuditedAuthentication[] = []
  const port = { authenticate: () => Promise.resolve(verdict) } as unknown as AuthenticationPort
  const audited = new AuditedAuthenticationPort(port, { authentication: entry => void written.push(entry) })
  expect(await audited.authenticate(REQUEST)).toBe(verdict)
  expect(written).toEqual(expected === null ? [] : [{ ...WHO, ...expected }])
  expect(JSON.stringify(written)).not.toMatch(/hunter2|token of|claimed/)
})

test('all other calls pass through', async () => {
  const calls: string[] = []
  const stop = (): void => void calls.push('stop')
  const port: AuthenticationPort = {
    authenticate: () => Promise.resolve({ is: 'unavailable', cause: '' }),
    authorize: () => Promise.resolve({ is: 'allowed', permit: null }),
    recheck: () => Promise.resolve({ is: 'holds' }),
    listen: onChanged => {
      onChanged('main')
      return stop
    },
  }
  const audited = new AuditedAuthenticationPort(port, { authentication: () => undefined })
  const identity = GRANT.identity
  expect(await audited.authorize({ authorizations: [], clientId: 'c', identity })).toEqual({ is: 'allowed', permit: null })
  const recheck = { policy: REQUEST.policy, clientId: 'c', peerCertificates: null, proof: Buffer.alloc(0) }
  expect(await audited.recheck(recheck)).toEqual({ is: 'holds' })
  audited.listen(name => calls.push(name))()
  expect(calls).toEqual(['main', 'stop'])
})
