import type { Socket } from 'node:net'

/** What lies below a socket of Node. */
export interface SystemSocket {
  readonly fd: number
}

/** Node keeps it in a field that is not part of its API: where that is not as we know it, there is none, and callers do without. */
export function systemSocketOf(socket: Socket): SystemSocket | undefined {
  const { _handle: handle } = socket as unknown as { _handle?: { readonly fd?: unknown } | null }
  return typeof handle?.fd === 'number' && handle.fd >= 0 ? { fd: handle.fd } : undefined
}
