/**
 * Whether a client may send its token on, if the answer to a request to `host` (the field `Host`)
 * leads it to the origin `to`. The widest rule of the known clients is that of Go's net/http, which
 * docker, containerd and podman use: `Authorization` goes to the same host, whatever its port, and
 * to every host below it.
 */
export function tokenFollows(host: string | undefined, to: string): boolean {
  const [from, target] = [hostIn(`http://${host ?? ''}`), hostIn(to)]
  // The name that the client knows is not known here.
  if (from === undefined || target === undefined) return true
  return target === from || target.endsWith(`.${from}`)
}

function hostIn(origin: string): string | undefined {
  return URL.parse(origin)?.hostname.replace(/\.$/, '')
}
