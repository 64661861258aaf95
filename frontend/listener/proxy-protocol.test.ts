import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { PROXY_HEADER_BYTES_MAX, ProxyHeaderError, parseProxyHeader } from './proxy-protocol.ts'

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')

function v2(versionAndCommand: number, family: number, body: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(body.length)
  return Buffer.concat([SIGNATURE, Buffer.from([versionAndCommand, family]), length, body])
}

function value(type: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, content.length >> 8, content.length & 0xff]), content])
}

const IPV4 = Buffer.from([192, 0, 2, 1, 198, 51, 100, 1, 0x9c, 0x40, 0x07, 0x5b])
const IPV6 = Buffer.from(`20010db8${'00'.repeat(11)}01${'00'.repeat(15)}019c40075b`, 'hex')

describe('version 1', () => {
  test.each([
    ['PROXY TCP4 192.0.2.1 198.51.100.1 40000 1883\r\n', { address: '192.0.2.1', port: 40_000 }],
    ['PROXY TCP6 2001:db8::1 ::1 1 65535\r\n', { address: '2001:db8::1', port: 1 }],
    ['PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n', { address: '192.0.2.1', port: 1 }],
    ['PROXY UNKNOWN\r\n', null],
    ['PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n', null],
  ])('%j', (text, source) => {
    const bytes = Buffer.from(`${text}CONNECT`)
    expect(parseProxyHeader(bytes)).toEqual({ headerBytes: text.length, source, serverName: null })
    for (let length = 0; length < text.length; length++) expect(parseProxyHeader(bytes.subarray(0, length))).toBeNull()
  })

  test.each([
    'PROXY TCP4 192.0.2.1 198.51.100.1 40000\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.1 40000 1883 1\r\n',
    'PROXY TCP4 192.0.2.1  198.51.100.1 40000 1883\r\n',
    'PROXY TCP4 2001:db8::1 ::1 1 2\r\n',
    'PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.1 65536 1883\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.1 040 1883\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.1 -1 1883\r\n',
    'PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n',
    `PROXY UNKNOWN ${'x'.repeat(93)}`,
    'PROXI',
    'GET / HTTP/1.1\r\n',
    '\x10\x0c\x00\x04MQTT',
  ])('refuses %j', text => {
    expect(() => parseProxyHeader(Buffer.from(text, 'latin1'))).toThrow(ProxyHeaderError)
  })
})

describe('version 2', () => {
  test.each([
    ['IPv4', v2(0x21, 0x11, IPV4), { address: '192.0.2.1', port: 40_000 }],
    ['IPv6', v2(0x21, 0x21, IPV6), { address: '2001:db8::1', port: 40_000 }],
    ['Unix', v2(0x21, 0x31, Buffer.alloc(216)), null],
    ['unspecified', v2(0x21, 0x00, Buffer.alloc(0)), null],
    ['LOCAL', v2(0x20, 0x00, Buffer.alloc(0)), null],
    ['LOCAL, with addresses that do not count', v2(0x20, 0x11, IPV4), null],
  ])('%s', (_, header, source) => {
    expect(parseProxyHeader(Buffer.concat([header, Buffer.from('CONNECT')]))).toEqual({
      headerBytes: header.length,
      source,
      serverName: null,
    })
    for (let length = 0; length < header.length; length++) expect(parseProxyHeader(header.subarray(0, length))).toBeNull()
  })

  test('an IPv4-mapped client is an IPv4 client', () => {
    const mapped = Buffer.concat([Buffer.from(`${'00'.repeat(10)}ffffc0000201`, 'hex'), IPV6.subarray(16)])
    expect(parseProxyHeader(v2(0x21, 0x21, mapped))!.source!.address).toBe('192.0.2.1')
  })

  test('the authority is the server name, other values are skipped', () => {
    const values = [value(0x01, Buffer.from('mqtt')), value(0x20, Buffer.alloc(40, 1)), value(0x02, Buffer.from('mqtt.example.com'))]
    const header = v2(0x21, 0x11, Buffer.concat([IPV4, ...values]))
    expect(parseProxyHeader(header)).toMatchObject({ headerBytes: header.length, serverName: 'mqtt.example.com' })
  })

  test.each(['', 'a b', 'a\n', '\ufffd', 'x'.repeat(256)])('%j is not a server name', name => {
    expect(parseProxyHeader(v2(0x21, 0x11, Buffer.concat([IPV4, value(0x02, Buffer.from(name))])))!.serverName).toBeNull()
  })

  test.each([
    ['version 1 in binary', v2(0x11, 0x11, IPV4)],
    ['an unknown command', v2(0x22, 0x11, IPV4)],
    ['an unknown family', v2(0x21, 0x41, IPV4)],
    ['an unknown transport', v2(0x21, 0x13, IPV4)],
    ['too few bytes for the addresses', v2(0x21, 0x11, IPV4.subarray(1))],
    ['a value past the end', v2(0x21, 0x11, Buffer.concat([IPV4, Buffer.from([1, 0, 1])]))],
    ['half a value header', v2(0x21, 0x11, Buffer.concat([IPV4, Buffer.from([1, 0])]))],
    ['a header that is too long, before it has arrived', v2(0x21, 0x11, Buffer.alloc(PROXY_HEADER_BYTES_MAX - 15)).subarray(0, 16)],
  ])('refuses %s', (_, header) => {
    expect(() => parseProxyHeader(header)).toThrow(ProxyHeaderError)
  })
})

test('any bytes are a header, not yet one, or refused; and more bytes do not change a header', () => {
  const beginnings = fc.constantFrom(
    Buffer.alloc(0),
    SIGNATURE,
    Buffer.from('PROXY '),
    Buffer.from('PROXY TCP4 '),
    v2(0x21, 0x11, IPV4).subarray(0, 14),
  )
  fc.assert(
    fc.property(beginnings, fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ maxLength: 20 }), (beginning, rest, more) => {
      const bytes = Buffer.concat([beginning, rest])
      const first = attempt(bytes)
      if (first === null) return
      expect(attempt(Buffer.concat([bytes, more]))).toEqual(first)
      if (first !== 'refused') expect(first.headerBytes).toBeLessThanOrEqual(bytes.length)
    }),
    { numRuns: 2_000 },
  )
})

function attempt(bytes: Buffer): ReturnType<typeof parseProxyHeader> | 'refused' {
  try {
    return parseProxyHeader(bytes)
  } catch (error) {
    expect(error).toBeInstanceOf(ProxyHeaderError)
    return 'refused'
  }
}
