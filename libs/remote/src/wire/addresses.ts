import ipaddr from 'ipaddr.js'

/**
 * What kind of address it is, as a user may read it; `undefined` for one of the public internet,
 * which is all that a registry may lead to by itself. What cannot be parsed is not public.
 *
 * An IPv4 address counts as what it is wherever it stands: mapped into IPv6 (`::ffff:…`) or behind
 * a NAT64 (`64:ff9b::…`, RFC 6052), through which the kernel or a gateway would reach it.
 */
export function notPublic(address: string): string | undefined {
  if (!ipaddr.isValid(address)) return 'no address'
  const parsed = ipaddr.parse(address)
  return parsed instanceof ipaddr.IPv6 ? notPublicV6(parsed) : notPublicV4(parsed)
}

function notPublicV4(address: ipaddr.IPv4): string | undefined {
  const range = address.range()
  if (range !== 'unicast') return NAMES.get(range) ?? 'a reserved address'
  return OTHER_V4.some((net) => address.match(net)) ? 'a reserved address' : undefined
}

function notPublicV6(address: ipaddr.IPv6): string | undefined {
  if (address.isIPv4MappedAddress()) return notPublicV4(address.toIPv4Address())
  const range = address.range()
  if (range === 'rfc6052') return notPublicV4(new ipaddr.IPv4(address.toByteArray().slice(12)))
  if (range !== 'unicast') return NAMES.get(range) ?? 'a reserved address'
  // Nothing else is given out as global unicast (RFC 4291, 2.4; IANA's registry).
  return address.match(GLOBAL_V6) && !OTHER_V6.some((net) => address.match(net)) ? undefined : 'a reserved address'
}

const NAMES: ReadonlyMap<string, string> = new Map([
  ['private', 'a private address'],
  ['uniqueLocal', 'a private address'],
  ['loopback', 'a loopback address'],
  ['linkLocal', 'a link-local address'],
  ['carrierGradeNat', 'an address of a carrier-grade NAT'],
  ['multicast', 'a multicast address'],
  ['broadcast', 'a broadcast address'],
  ['unspecified', 'the unspecified address'],
])

/** What ipaddr.js takes for unicast, and what is not. */
const OTHER_V4 = [
  // Benchmarks (RFC 2544), 6to4 relays (RFC 7526); the wire server of Azure's machines.
  ipaddr.IPv4.parseCIDR('198.18.0.0/15'),
  ipaddr.IPv4.parseCIDR('192.88.99.0/24'),
  ipaddr.IPv4.parseCIDR('168.63.129.16/32'),
]
const GLOBAL_V6 = ipaddr.IPv6.parseCIDR('2000::/3')
/** Special purposes and Teredo (RFC 2928), documentation (RFC 3849, RFC 9637), 6to4. */
const OTHER_V6 = ['2001::/23', '2001:db8::/32', '3fff::/20', '2002::/16'].map((net) => ipaddr.IPv6.parseCIDR(net))
