import { z } from 'zod'

/**
 * What a node's runtime says of itself: renewed every few seconds, gone soon after the runtime is.
 */
export const nodeSchema = z.object({
  id: z.string(),
  /** `unix:///path` or `http://host:port` of the node API. The name is that of older releases. */
  door: z.string(),
  /** Of the machine, for people. */
  host: z.string().default(''),
  driver: z.string(),
  driverReason: z.string(),
  runtime: z.string(),
  kernel: z.string(),
  warnings: z.array(z.string()),
})
export type NodeRecord = z.infer<typeof nodeSchema>
/** A node is alive if both are. */
export const NODE_PARTS = ['runtime', 'extractor'] as const
export type NodePart = (typeof NODE_PARTS)[number]

/** `ready` takes work · one part is gone · both are. */
type NodeState = 'ready' | 'no_extractor' | 'no_runtime' | 'gone'
interface PartStatus {
  readonly lives: boolean
  /** Milliseconds since the epoch, and until now, by Redis' clock. */
  readonly seenAt: number | undefined
  readonly silentMs: number | undefined
  /** What it said last. */
  readonly said: unknown
}
export interface NodeStatus {
  readonly id: string
  readonly state: NodeState
  readonly host: string
  readonly runtime: PartStatus
  readonly extractor: PartStatus
  /** What its runtime said last, also where that is gone. */
  readonly last: NodeRecord | undefined
}

/** What Redis has of one part of a node. */
export interface ReadPart {
  /** What the part says, as long as it lives. */
  readonly text: string | null
  /** When it was last renewed (milliseconds since the epoch), a space, and what it said. */
  readonly seen: string | null
}

/** @param now of Redis' clock */
export function nodeStatus(id: string, parts: Readonly<Record<NodePart, ReadPart>>, now: number): NodeStatus {
  const [runtime, extractor] = [partStatus(parts.runtime, now), partStatus(parts.extractor, now)]
  const last = runtime.said === undefined ? undefined : nodeSchema.safeParse(runtime.said).data
  const host = last?.host ?? hostOf(extractor.said)
  return { id, state: stateOf(runtime, extractor), runtime, extractor, last, host }
}

function partStatus({ text, seen }: ReadPart, now: number): PartStatus {
  const at = seen === null ? undefined : Number(seen.slice(0, seen.indexOf(' ')))
  const said = text ?? seen?.slice(seen.indexOf(' ') + 1)
  return {
    lives: text !== null,
    seenAt: at,
    silentMs: at === undefined ? undefined : Math.max(0, now - at),
    said: said === undefined ? undefined : (JSON.parse(said) as unknown),
  }
}

function stateOf(runtime: PartStatus, extractor: PartStatus): NodeState {
  if (runtime.lives) return extractor.lives ? 'ready' : 'no_extractor'
  return extractor.lives ? 'no_runtime' : 'gone'
}

function hostOf(said: unknown): string {
  return z.object({ host: z.string() }).safeParse(said).data?.host ?? ''
}

/** Why a request for any node finds none, and what to do. */
export function whyNoNode(statuses: readonly NodeStatus[]): string {
  const halves = statuses.filter(({ state }) => state === 'no_extractor' || state === 'no_runtime')
  if (halves.length === 0) return 'no node is running: start one with `strata up`'
  const lacks = halves.map(({ id, state }) => `${id} has no ${state === 'no_extractor' ? 'extractor' : 'runtime'}`)
  return `no node is ready (${lacks.join(', ')}): a node takes work when its runtime and its extractor both run`
}
