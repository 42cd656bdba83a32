import type { ListenerLimits } from '../listener/open-listener.js'
import type { BodyLimits } from '../http/request-bodies.js'

/** For tests of other things. */
export const LIMITS: ListenerLimits = { connections: 100, headersMs: 10_000, unreadMs: 60_000 }
export const BODIES: BodyLimits = { bytes: 4 * 1024 * 1024, memory: 64 * 1024 * 1024, timeoutMs: 10_000 }
