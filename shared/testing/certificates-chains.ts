import { AUTHORITY_EXTENSIONS, CLIENT_EXTENSIONS } from './certificates.ts'
import type { CertificateLab, IssuedCertificate } from './certificates.ts'

/** A chain as a client may present it, and what is to come of it. */
export interface ChainCase {
  readonly name: string
  /** Leaf first. */
  readonly presented: readonly IssuedCertificate[]
  readonly anchors: readonly IssuedCertificate[]
  readonly verdict: 'trusted' | 'unchained' | 'refused'
  /** Revocation lists, PEM. */
  readonly lists?: readonly string[]
  /** Where node:tls, which knows no lists here, decides otherwise; why is in the name. */
  readonly tlsAccepts?: boolean
}

type Verdict = ChainCase['verdict']

/** Every kind of chain that matters, good and bad. */
export function makeChainCases(lab: CertificateLab): readonly ChainCase[] {
  return [
    ...goodCases(lab),
    ...unchainedCases(lab),
    ...authorityCases(lab),
    ...leafCases(lab),
    ...keyCases(lab),
    ...constraintCases(lab),
    ...revokedCases(lab),
  ]
}

const FULL_AUTHORITY = [...AUTHORITY_EXTENSIONS, 'subjectKeyIdentifier=hash']

interface Family {
  readonly root: IssuedCertificate
  readonly middle: IssuedCertificate
  readonly leaf: IssuedCertificate
}

function family(lab: CertificateLab, key: 'EC' | 'EC384' | 'RSA' | 'Ed25519' | 'Ed448' = 'EC', name: string = key): Family {
  const root = lab.authority(`/O=${name}/CN=root`, { key, extensions: FULL_AUTHORITY })
  const middle = lab.authority(`/O=${name}/CN=middle`, { key, issuer: root, extensions: FULL_AUTHORITY })
  return { root, middle, leaf: lab.issue({ subject: `/O=${name}/CN=leaf`, key, issuer: middle }) }
}

function goodCases(lab: CertificateLab): readonly ChainCase[] {
  const { root, middle, leaf } = family(lab)
  const other = family(lab, 'EC', 'other')
  const twin = lab.authority('/O=EC/CN=root', { extensions: FULL_AUTHORITY })
  const crossed = lab.authority('/O=EC/CN=middle', { issuer: other.root, keyOf: middle, extensions: FULL_AUTHORITY })
  const plain = lab.issue({ subject: '/CN=plain', issuer: middle, extensions: ['basicConstraints=CA:FALSE'] })
  const own = lab.issue({ subject: '/CN=own' })
  const folded = lab.authority('/O=Folded  Name/CN=ROOT')
  const foldedLeaf = lab.issue({
    subject: '/CN=folded',
    issuer: lab.authority('/O=folded name/CN=Root', { keyOf: folded, stringMask: 'nombstr' }),
  })
  const families = (['EC384', 'RSA', 'Ed25519', 'Ed448'] as const).map(kind => ({ kind, ...family(lab, kind) }))
  const pssRoot = lab.authority('/CN=pss', { key: 'RSA', isPss: true })
  const pssLeaf = lab.issue({ subject: '/CN=pss leaf', key: 'RSA', isPss: true, issuer: pssRoot })
  const cases: (readonly [string, readonly IssuedCertificate[], readonly IssuedCertificate[], tlsAccepts?: boolean])[] = [
    ['a root is trusted', [leaf, middle], [root]],
    ['only the intermediate is trusted', [leaf, middle], [middle]],
    ['only the intermediate is trusted, and not sent', [leaf], [middle]],
    ['the intermediate is not sent, and both are trusted', [leaf], [middle, root]],
    ['the root is sent too', [leaf, middle, root], [root]],
    ['in any order', [leaf, root, middle], [root]],
    ['the leaf itself is trusted (TLS asks for its authority)', [leaf, middle], [leaf], false],
    ['a leaf that signs itself is trusted', [own], [own]],
    ['two authorities share a subject, the wrong one first', [leaf, middle], [twin, root]],
    ['unrelated certificates are sent too', [leaf, other.middle, other.root, middle, plain], [root]],
    ['a certificate is sent twice', [leaf, middle, middle, leaf], [root]],
    ['cross-signed, the wrong certificate first (TLS tries only the first)', [leaf, crossed, middle], [root], false],
    ['cross-signed, the right certificate first', [leaf, crossed, middle], [other.root]],
    ['cross-signed, the right certificate last (TLS tries only the first)', [leaf, middle, crossed], [other.root], false],
    ['no usage at all in the leaf', [plain, middle], [root]],
    ['names that differ in case, spaces and type of text', [foldedLeaf], [folded]],
    ['RSA with PSS', [pssLeaf], [pssRoot]],
    ...families.map(each => [each.kind, [each.leaf, each.middle], [each.root]] as const),
  ]
  return cases.map(([name, presented, anchors, tlsAccepts]) => {
    return { name, presented, anchors, verdict: 'trusted', ...(tlsAccepts !== undefined && { tlsAccepts }) }
  })
}

function unchainedCases(lab: CertificateLab): readonly ChainCase[] {
  const { root, middle, leaf } = family(lab, 'EC', 'unchained')
  const forged = lab.authority('/O=unchained/CN=root')
  const forgedLeaf = lab.issue({ subject: '/O=unchained/CN=leaf', issuer: forged })
  const own = lab.issue({ subject: '/CN=own' })
  const cases: (readonly [string, readonly IssuedCertificate[], readonly IssuedCertificate[]])[] = [
    ['an authority of the same name with a key of its own', [forgedLeaf], [root]],
    ['the same, which is sent too', [forgedLeaf, forged], [root]],
    ['the intermediate is missing', [leaf], [root]],
    ['an authority that is not trusted', [leaf, middle, root], [family(lab, 'EC', 'unrelated').root]],
    ['it signs itself', [own], [root]],
  ]
  return cases.map(([name, presented, anchors]) => ({ name, presented, anchors, verdict: 'unchained' }))
}

/** An authority, or one of its certificates, is not what it should be: each under a good root. */
function authorityCases(lab: CertificateLab): readonly ChainCase[] {
  const { root, middle } = family(lab, 'EC', 'authorities')
  const under = (issuer: IssuedCertificate): IssuedCertificate => lab.issue({ subject: '/CN=below', issuer })
  const wish = (extensions: readonly string[], more: object = {}): IssuedCertificate =>
    lab.authority('/CN=bad', { issuer: root, extensions, ...more })
  const badMiddle = (name: string, bad: IssuedCertificate, verdict: Verdict = 'refused'): ChainCase => ({
    name,
    presented: [under(bad), bad],
    anchors: [root],
    verdict,
  })
  const lengthNone = lab.authority('/CN=none below', { extensions: ['basicConstraints=critical,CA:TRUE,pathlen:0'] })
  const belowNone = lab.authority('/CN=below none', { issuer: lengthNone })
  const renewed = lab.authority('/CN=none below', { issuer: lengthNone })
  const leafThatSigns = lab.issue({ subject: '/CN=leaf that signs', issuer: middle })
  const oldRoot = lab.authority('/CN=old root', { to: '20210101000000Z' })
  const first = lab.authority('/CN=version one', { extensions: [] })
  const anchorCase = (name: string, anchor: IssuedCertificate, verdict: Verdict = 'refused', tlsAccepts?: boolean): ChainCase => ({
    name,
    presented: [under(anchor)],
    anchors: [anchor],
    verdict,
    ...(tlsAccepts !== undefined && { tlsAccepts }),
  })
  const clientOnly = ['extendedKeyUsage=clientAuth']
  return [
    badMiddle('an intermediate without the authority flag', wish(['basicConstraints=critical,CA:FALSE'])),
    badMiddle('an intermediate without basic constraints', wish(['keyUsage=critical,keyCertSign'])),
    badMiddle('an intermediate that may not sign', wish(['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,cRLSign'])),
    badMiddle('an intermediate that has expired', wish(AUTHORITY_EXTENSIONS, { to: '20210101000000Z' })),
    badMiddle('an intermediate that is not valid yet', wish(AUTHORITY_EXTENSIONS, { from: '20690101000000Z' })),
    badMiddle('an intermediate for servers only', wish([...AUTHORITY_EXTENSIONS, 'extendedKeyUsage=serverAuth'])),
    badMiddle('an intermediate for clients', wish([...AUTHORITY_EXTENSIONS, ...clientOnly]), 'trusted'),
    badMiddle('an intermediate with an unknown critical extension', wish([...AUTHORITY_EXTENSIONS, '1.2.3.4=critical,DER:0500'])),
    badMiddle('an intermediate with an unknown extension', wish([...AUTHORITY_EXTENSIONS, '1.2.3.4=DER:0500']), 'trusted'),
    { name: 'issued by a leaf', presented: [under(leafThatSigns), leafThatSigns, middle], anchors: [root], verdict: 'refused' },
    { name: 'issued by a leaf that is trusted', presented: [under(leafThatSigns)], anchors: [leafThatSigns], verdict: 'refused' },
    { name: 'path length exceeded', presented: [under(belowNone), belowNone], anchors: [lengthNone], verdict: 'refused' },
    {
      name: 'a new key of the same authority does not count',
      presented: [under(renewed), renewed],
      anchors: [lengthNone],
      verdict: 'trusted',
    },
    anchorCase('path length kept', lengthNone, 'trusted'),
    anchorCase('the anchor has expired', oldRoot),
    anchorCase('the anchor is of version 1: nothing says that it is an authority (TLS takes it)', first, 'refused', true),
  ]
}

function leafCases(lab: CertificateLab): readonly ChainCase[] {
  const { root, middle } = family(lab, 'EC', 'leaves')
  const leafCase = (name: string, extensions: readonly string[], verdict: Verdict = 'refused', more: object = {}): ChainCase => ({
    name: `a leaf ${name}`,
    presented: [lab.issue({ subject: '/CN=bad leaf', issuer: middle, extensions, ...more }), middle],
    anchors: [root],
    verdict,
  })
  const basic = ['basicConstraints=critical,CA:FALSE']
  const expired = lab.issue({ subject: '/CN=own, expired', to: '20210101000000Z' })
  return [
    leafCase('that has expired', CLIENT_EXTENSIONS, 'refused', { to: '20210101000000Z' }),
    leafCase('that is not valid yet', CLIENT_EXTENSIONS, 'refused', { from: '20690101000000Z' }),
    leafCase('for servers only', [...basic, 'extendedKeyUsage=serverAuth']),
    leafCase('for any purpose by name', [...basic, 'extendedKeyUsage=anyExtendedKeyUsage']),
    leafCase('for servers and clients', [...basic, 'extendedKeyUsage=serverAuth,clientAuth'], 'trusted'),
    leafCase('whose key may only encrypt', [...basic, 'keyUsage=critical,keyEncipherment']),
    leafCase('whose key may agree on keys', [...basic, 'keyUsage=critical,keyAgreement'], 'trusted'),
    leafCase('with an unknown critical extension', [...CLIENT_EXTENSIONS, '1.2.3.4=critical,DER:0500']),
    leafCase('with a critical policy', [...CLIENT_EXTENSIONS, 'certificatePolicies=critical,1.2.3.4'], 'trusted'),
    leafCase('that is an authority', AUTHORITY_EXTENSIONS.slice(0, 1), 'trusted'),
    leafCase('without extensions', [], 'trusted'),
    { name: 'a trusted leaf that has expired', presented: [expired], anchors: [expired], verdict: 'refused' },
  ]
}

function keyCases(lab: CertificateLab): readonly ChainCase[] {
  const ec = family(lab, 'EC', 'keys')
  const rsaRoot = lab.authority('/CN=rsa root', { key: 'RSA' })
  const ecUnderRsa = lab.authority('/CN=ec under rsa', { issuer: rsaRoot })
  const rsaLeaf = lab.issue({ subject: '/CN=rsa leaf', key: 'RSA', issuer: ec.middle })
  const weakLeaf = lab.issue({ subject: '/CN=weak', key: 'RSA1024', issuer: rsaRoot })
  const sha1Leaf = lab.issue({ subject: '/CN=sha1', digest: 'sha1', issuer: ec.middle })
  const oddLeaf = lab.issue({ subject: '/CN=odd', key: 'secp256k1', issuer: ec.middle })
  const sha1Root = lab.authority('/CN=sha1 root', { digest: 'sha1' })
  const edLeaf = lab.issue({ subject: '/CN=ed', key: 'Ed25519', issuer: ec.middle })
  const refused = (name: string, leaf: IssuedCertificate, rest: readonly IssuedCertificate[], anchor: IssuedCertificate): ChainCase => ({
    name,
    presented: [leaf, ...rest],
    anchors: [anchor],
    verdict: 'refused',
  })
  return [
    { ...refused('an RSA leaf below EC (TLS takes it)', rsaLeaf, [ec.middle], ec.root), tlsAccepts: true },
    {
      ...refused('EC below an RSA root (TLS takes it)', lab.issue({ subject: '/CN=ec', issuer: ecUnderRsa }), [ecUnderRsa], rsaRoot),
      tlsAccepts: true,
    },
    { ...refused('an Ed25519 leaf below EC (TLS takes it)', edLeaf, [ec.middle], ec.root), tlsAccepts: true },
    refused('an RSA key of 1024 bits', weakLeaf, [], rsaRoot),
    refused('a signature with SHA-1', sha1Leaf, [ec.middle], ec.root),
    refused('a curve that TLS does not have', oddLeaf, [ec.middle], ec.root),
    {
      name: 'a root whose own signature is with SHA-1: nobody relies on it',
      presented: [lab.issue({ subject: '/CN=below', issuer: sha1Root })],
      anchors: [sha1Root],
      verdict: 'trusted',
    },
  ]
}

function constraintCases(lab: CertificateLab): readonly ChainCase[] {
  const { root } = family(lab, 'EC', 'constraints')
  const authorities = new Map<string, IssuedCertificate>()
  const authorityWith = (constraints: string): IssuedCertificate => {
    const extensions = [...AUTHORITY_EXTENSIONS, ...constraints.split('\n')]
    const made = authorities.get(constraints) ?? lab.authority('/CN=constrained', { issuer: root, extensions })
    authorities.set(constraints, made)
    return made
  }
  const under = (constraints: string, extra: readonly string[], subject: string, isGood: boolean): ChainCase => {
    const middle = authorityWith(constraints)
    const leaf = lab.issue({ subject, issuer: middle, extensions: [...CLIENT_EXTENSIONS, ...extra] })
    const verdict = isGood ? 'trusted' : 'refused'
    return {
      name: `${constraints.split('\n')[0]} and ${subject} ${extra.join(' ')}`,
      presented: [leaf, middle],
      anchors: [root],
      verdict,
    }
  }
  const names = (text: string): readonly string[] => [`subjectAltName=${text}`]
  const permitted = 'nameConstraints=critical,permitted;'
  const excluded = 'nameConstraints=critical,excluded;'
  const directory = 'dirName:section\n[section]\nO=Good'
  return [
    under(`${permitted}DNS:good.example`, names('DNS:a.good.example'), '/CN=a', true),
    under(`${permitted}DNS:good.example`, names('DNS:GOOD.example'), '/CN=a', true),
    under(`${permitted}DNS:good.example`, names('DNS:notgood.example'), '/CN=a', false),
    under(`${permitted}DNS:good.example`, names('DNS:a.good.example,DNS:bad.example'), '/CN=a', false),
    under(`${permitted}DNS:good.example`, [], '/CN=device-7', true),
    under(`${permitted}DNS:good.example`, [], '/CN=host.bad.example', false),
    under(`${excluded}DNS:bad.example`, names('DNS:a.good.example'), '/CN=a', true),
    under(`${excluded}DNS:bad.example`, names('DNS:a.bad.example'), '/CN=a', false),
    under(`${permitted}email:good.example`, names('email:a@good.example'), '/CN=a', true),
    under(`${permitted}email:good.example`, names('email:a@sub.good.example'), '/CN=a', false),
    under(`${permitted}email:good.example`, [], '/CN=a/emailAddress=a@bad.example', false),
    under(`${permitted}email:.good.example`, names('email:a@sub.good.example'), '/CN=a', true),
    under(`${excluded}email:a@good.example`, names('email:a@good.example'), '/CN=a', false),
    under(`${excluded}email:a@good.example`, names('email:b@good.example'), '/CN=a', true),
    under(`${permitted}${directory}`, [], '/O=Good/CN=a', true),
    under(`${permitted}${directory}`, [], '/O=good/OU=x/CN=a', true),
    under(`${permitted}${directory}`, [], '/O=Bad/CN=a', false),
    under(`${permitted}${directory}`, [], '/CN=a/O=Good', false),
    under(`${excluded}${directory}`, [], '/O=Good/CN=a', false),
    under(`${permitted}IP:10.1.0.0/255.255.0.0`, names('IP:10.1.2.3'), '/CN=a', true),
    under(`${permitted}IP:10.1.0.0/255.255.0.0`, names('IP:10.2.2.3'), '/CN=a', false),
    under(`${permitted}IP:10.1.0.0/255.255.0.0`, names('IP:fd00::1'), '/CN=a', false),
    under(`${excluded}IP:fd00::/ff00::`, names('IP:fd00::1'), '/CN=a', false),
    under(`${permitted}URI:.good.example`, names('URI:mqtt://a.good.example:1883/x'), '/CN=a', true),
    under(`${permitted}URI:.good.example`, names('URI:mqtt://good.example/'), '/CN=a', false),
    under(`${permitted}URI:good.example`, names('URI:mqtt://good.example/'), '/CN=a', true),
    under(`${excluded}URI:bad.example`, names('URI:urn:device:7'), '/CN=a', false),
    under(`${permitted}RID:1.2.3.4`, names('RID:1.2.3.4'), '/CN=a', false),
    under(`${permitted}RID:1.2.3.4`, names('DNS:a.example'), '/CN=a', true),
  ]
}

function revokedCases(lab: CertificateLab): readonly ChainCase[] {
  const { root, middle, leaf } = family(lab, 'EC', 'revoked')
  const rsa = family(lab, 'RSA', 'revoked rsa')
  const twin = lab.authority('/O=revoked/CN=root')
  const listed = (name: string, verdict: Verdict, ...lists: readonly string[]): ChainCase => ({
    name,
    presented: [leaf, middle],
    anchors: [root],
    verdict,
    lists,
    tlsAccepts: true,
  })
  const rsaList = lab.list(rsa.middle, { revoked: [rsa.leaf] })
  return [
    listed('a list without the leaf', 'trusted', lab.list(middle, { revoked: [root] })),
    listed('an empty list', 'trusted', lab.list(middle, { revoked: [] })),
    listed('the leaf is revoked', 'refused', lab.list(middle, { revoked: [leaf, root] })),
    listed('the intermediate is revoked', 'refused', lab.list(root, { revoked: [middle] })),
    listed('one of several lists', 'refused', lab.list(middle, { revoked: [] }), lab.list(root, { revoked: [middle] })),
    listed('a list that is out of date', 'refused', lab.list(middle, { revoked: [leaf], to: '20210101000000Z' })),
    listed('the same serial number of another authority', 'trusted', lab.list(root, { revoked: [leaf] })),
    listed('a list of an authority of the same name with another key', 'trusted', lab.list(twin, { revoked: [middle] })),
    {
      name: 'a leaf of RSA is revoked',
      presented: [rsa.leaf, rsa.middle],
      anchors: [rsa.root],
      verdict: 'refused',
      lists: [rsaList],
      tlsAccepts: true,
    },
  ]
}
