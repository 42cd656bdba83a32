import { explore, type Model, type Verdict } from '@strata/base/testing'

/**
 * A model for upload-model.spec.ts of the uploads of a registry (uploads.ts, push-holds.ts,
 * decision 85). It is small enough to try every interleaving: one upload; the requests of its
 * clients on two gateways, each of which may stop for ever at any step, and whose answer by the
 * store may be lost; the reaper, which may take the upload or a hold for expired at any time; a
 * collector; a client that puts a manifest of the blob and deletes it.
 *
 * One step is one request to the store. Three things are one step here, because other models try
 * their steps: a blob's record is made, or held, at once (store-model.ts); a name is set if its
 * lease lives (names-model.ts).
 *
 * Six laws:
 * - *mixed*: a blob consists of bytes that its digest is not of;
 * - *twice*: two blobs consist of the same object;
 * - *forgotten*: an upload that lives lacks a chunk that was answered;
 * - *promise*: a push of a blob was answered, its hold lives, and the repository lacks the blob;
 * - *lost*: a manifest is visible, and the repository lacks its blob.
 * - *robbed*: the reaper has ended an upload that was used after it had looked.
 *
 * No rule is about marks of used ids (`UsedIds`): the id of an upload is fresh, no client chose it,
 * and so no request can make a second upload of that id. `fresh` shows what happens otherwise.
 *
 * The `wrong` rules each leave out one thing. The spec shows that without it a law breaks:
 * - `key`: a chunk is written under a key of its own, not of its place in the upload;
 * - `run`: a request that was superseded records nothing;
 * - `recheck`: a request looks again at where the upload is after it has taken it over;
 * - `landed`: a request that was superseded deletes its chunk only if the upload does not name it;
 * - `committing`: the digest is recorded before the blob's record is made;
 * - `digest`: an upload whose digest is recorded is finished with no other one;
 * - `out`: a cancellation takes the upload out of its lease before it ends the lease;
 * - `order`: the blob is held for its pusher before the upload ends, and the pusher is answered;
 * - `expired`: whoever holds a blob looks then whether the hold's lease lives;
 * - `had`: the key of the repository's blob is held too;
 * - `put`: a manifest's put holds the blob, whoever else does;
 * - `asked`: a client is told that a blob is there (`HEAD`) only after the blob is held for it;
 * - `records`: the reaper deletes no bytes that a blob's record names;
 * - `unchanged`: it ends an upload only if that has not changed since it looked;
 * - `fresh`: a second upload never has the id of the first.
 */
export const UPLOAD_RULES = [
  'key',
  'run',
  'recheck',
  'landed',
  'committing',
  'digest',
  'out',
  'order',
  'expired',
  'had',
  'put',
  'asked',
  'records',
  'unchanged',
  'fresh',
] as const
export type UploadRule = (typeof UPLOAD_RULES)[number]

/** What a client asks of a gateway. A chunk is one letter, and a digest is the text itself. */
export type Asked =
  | { readonly is: 'append'; readonly start: number; readonly chunk: string }
  | { readonly is: 'finish'; readonly digest: string; readonly chunk?: string }
  | { readonly is: 'cancel' }
  /** Whether the repository has the blob (`HEAD`): the client will not send it then. */
  | { readonly is: 'ask'; readonly digest: string }
  /** A new upload. It gets the id of the one that is over if the rule `fresh` is left out. */
  | { readonly is: 'begin' }

export interface UploadScene {
  /** What each of the gateways is asked, one after the other. */
  readonly gateways: readonly (readonly Asked[])[]
  /** How many answers of the store are lost. */
  readonly losses?: number
  /** How often the reaper may begin to look. */
  readonly reaps?: number
  readonly collections?: number
  /** The digest of the blob whose manifest is put, and deleted again. */
  readonly manifest?: string
}

/** A chunk as the records name it: its letter, and the key of its bytes (one digit). */
type Pieces = string

interface Lease {
  readonly run: number
  readonly state: 'receiving' | 'committing'
  readonly pieces: Pieces
  readonly digest: string
  /** A cancellation has taken the upload out. */
  readonly isOut: boolean
}
interface Blob {
  readonly pieces: Pieces
  /** Bits: the holders below. */
  readonly holders: number
}

/** Two leases that hold what was pushed, the manifest's put, and the upload. */
const [PUT, UPLOAD] = [4, 8] as const
const HOLDS = 2

interface Request {
  readonly at:
    | 'look'
    | 'take'
    | 'write'
    | 'record'
    | 'superseded'
    | 'drop'
    | 'close'
    | 'read'
    | 'commit'
    | 'hold'
    | 'add'
    | 'sure'
    | 'end'
    | 'out'
    | 'list'
    | 'alive'
    | 'named'
    | 'delete'
  readonly asked: number
  /** The pieces when it took the upload over, and then those that the blob is made of. */
  readonly seen: Pieces
  readonly own: Pieces
  /** The digest whose record is read before bytes are deleted. */
  readonly digest: string
  /** Which hold it has used. */
  readonly hold: number
  readonly listed: string
}
interface Reaper {
  readonly at: 'watch' | 'end' | 'list' | 'alive' | 'named' | 'delete'
  readonly left: number
  readonly isUnchanged: boolean
  readonly listed: string
}
interface Collector {
  readonly at: 'list' | 'live' | 'references' | 'retire' | 'delete' | 'keys' | 'unnamed' | 'alive' | 'named' | 'drop'
  readonly left: number
  /** What may go: blobs, and keys of the repository. */
  readonly blobs: readonly (Blob | undefined)[]
  readonly keys: readonly number[]
  readonly listed: string
}
interface State {
  readonly lease: Lease | undefined
  readonly wasOver: boolean
  /** The bytes of each key: a letter, or `-`. */
  readonly data: string
  /** By the scene's digests. Whatever changes is a new object: collectors compare it. */
  readonly blobs: readonly (Blob | undefined)[]
  /** The holders of the repository's keys; -1 for no key. Each write adds `WRITE`. */
  readonly keys: readonly number[]
  /** Bits: holds and puts that are over. */
  readonly over: number
  /** The hold that gateways use now. */
  readonly hold: number
  /** The chunks that were answered. */
  readonly said: string
  /** For each digest the holds that its answers count on. */
  readonly promised: readonly number[]
  readonly named: boolean
  readonly losses: number
  readonly isRobbed: boolean
  readonly requests: readonly Request[]
  readonly reaper: Reaper
  readonly collector: Collector
  readonly put: 'hold' | 'look' | 'add' | 'name' | 'visible' | 'over'
}

const NOBODY: Request = { at: 'look', asked: 0, seen: '', own: '', digest: '', hold: 0, listed: '' }
const KEYS = 6
/** Of a repository's key, above the bits of its holders: the number of its last write. */
const WRITE = 16
const holdersOf = (key: number): number => key % WRITE

class Registry implements Model<State> {
  readonly first: State
  readonly #digests: readonly string[]
  constructor(
    private readonly scene: UploadScene,
    private readonly wrong: UploadRule | undefined,
  ) {
    this.#digests = [
      ...new Set(scene.gateways.flat().flatMap((asked) => (asked.is === 'finish' ? [asked.digest] : []))),
    ]
    this.first = {
      lease: { run: -1, state: 'receiving', pieces: '', digest: '', isOut: false },
      wasOver: false,
      data: '-'.repeat(KEYS),
      blobs: this.#digests.map(() => undefined),
      keys: this.#digests.map(() => -1),
      over: 0,
      hold: 0,
      said: '',
      promised: this.#digests.map(() => 0),
      named: false,
      losses: scene.losses ?? 0,
      isRobbed: false,
      requests: scene.gateways.map(() => NOBODY),
      reaper: { at: 'watch', left: scene.reaps ?? 0, isUnchanged: false, listed: '' },
      collector: { at: 'list', left: scene.collections ?? 0, blobs: [], keys: [], listed: '' },
      put: scene.manifest === undefined ? 'over' : 'add',
    }
  }

  brokenLaw(state: State): string | undefined {
    const { blobs, lease, said, promised, over, named, isRobbed, data } = state
    for (const blob of blobs) {
      if (!blob) continue
      const digest = this.#digests[blobs.indexOf(blob)]!
      if (
        textOf(blob.pieces) !== digest ||
        keysOf(blob.pieces).some((key, at) => ![digest[at], '-'].includes(data[key]))
      )
        return 'mixed'
      for (const other of blobs)
        if (other && other !== blob && keysOf(other.pieces).some((key) => keysOf(blob.pieces).includes(key)))
          return 'twice'
    }
    if (lease && !lease.isOut && lease.state === 'receiving') {
      const { pieces } = lease
      if (!textOf(pieces).startsWith(said) || !isWhole(pieces, data)) return 'forgotten'
    }
    for (const [at, digest] of this.#digests.entries()) {
      const has = state.keys[at] !== -1 && blobs[at] !== undefined && isWhole(blobs[at].pieces, data)
      if (promised[at]! & ~over && !has) return 'promise'
      if (named && digest === this.scene.manifest && !has) return 'lost'
    }
    return isRobbed ? 'robbed' : undefined
  }

  *steps(state: State): Generator<State> {
    for (const [i, request] of state.requests.entries()) {
      const asked = this.scene.gateways[i]![request.asked]
      if (asked) yield* this.#request(state, i, request, asked)
    }
    // The hour of a hold is over, or its gateway stood still for so long.
    if (!(state.over & (1 << state.hold))) yield { ...state, over: state.over | (1 << state.hold) }
    yield* this.#reaper(state)
    yield* this.#collector(state)
    yield* this.#put(state)
  }

  *#request(state: State, i: number, request: Request, asked: Asked): Generator<State> {
    const { lease, data } = state
    const run = i * 10 + request.asked
    const to = (next: Partial<Request>, change: Partial<State> = {}): State => ({
      ...state,
      ...change,
      requests: state.requests.with(i, { ...request, ...next }),
    })
    const over = (change: Partial<State> = {}): State => to({ ...NOBODY, asked: request.asked + 1 }, change)
    const leased = (next: Lease | undefined): Partial<State> => this.#leased(state, next)
    const isOurs = lease !== undefined && (lease.run === run || this.wrong === 'run')
    const { seen, own, digest } = request
    const at = this.#digests.indexOf(digest)
    switch (request.at) {
      case 'look':
        if (asked.is === 'ask') {
          const which = this.#digests.indexOf(asked.digest)
          if (!state.blobs[which] || state.keys[which] === -1) yield over()
          else if (this.wrong !== 'asked') yield to({ at: 'hold', digest: asked.digest })
          else yield over(this.#promised(state, which, HOLDS - 1))
        } else if (asked.is === 'begin') {
          if (this.wrong === 'fresh' && this.#isForgotten(state))
            yield to({ ...NOBODY, asked: request.asked + 1 }, { ...leased({ ...this.first.lease!, run }), said: '' })
        } else yield this.#isRefused(lease, asked) ? over() : to({ at: 'take' })
        break
      case 'take': {
        if (!lease || lease.isOut) {
          yield over()
          break
        }
        const taken = leased({ ...lease, run })
        if (this.wrong !== 'recheck' && this.#isRefused(lease, asked)) yield over(taken)
        else if (asked.is === 'cancel') yield to({ at: 'out', digest: lease.digest }, taken)
        else if (asked.is === 'finish') {
          const next = lease.state === 'committing' ? 'read' : asked.chunk === undefined ? 'close' : 'write'
          yield to({ at: next, seen: lease.pieces, digest: asked.digest }, taken)
        } else yield to({ at: 'write', seen: lease.pieces }, taken)
        break
      }
      case 'write': {
        const chunk = 'chunk' in asked ? asked.chunk! : ''
        const key = this.wrong === 'key' ? textOf(seen).length : i * 3 + request.asked
        const isMismatch = asked.is === 'finish' && textOf(seen) + chunk !== asked.digest
        // What does not match is deleted again, and was recorded nowhere.
        if (isMismatch) yield over()
        else
          yield to(
            { at: asked.is === 'finish' ? 'close' : 'record', own: `${chunk}${key}` },
            { data: put(data, key, chunk) },
          )
        break
      }
      case 'record': {
        if (!isOurs) {
          yield to({ at: 'superseded' })
          break
        }
        const pieces = seen + own
        const recorded = leased({ ...lease, pieces })
        yield over({ ...recorded, said: textOf(pieces) })
        if (state.losses > 0) yield to({}, { ...recorded, losses: state.losses - 1 })
        break
      }
      case 'superseded': {
        const isNamed = lease?.pieces.includes(own) === true && this.wrong !== 'landed'
        // What becomes of the bytes of an upload that is over is up to whoever ended it.
        yield !lease || lease.isOut || isNamed || own === '' ? over() : to({ at: 'drop' })
        break
      }
      case 'drop':
        yield over({ data: without(data, keysOf(own).join('')) })
        break
      case 'close': {
        if (!isOurs) {
          yield to({ at: 'superseded' })
          break
        }
        const pieces = seen + own
        if (this.wrong === 'committing') {
          yield to({ at: 'commit', seen: pieces }, leased({ ...lease, pieces }))
          break
        }
        const closed = leased({ ...lease, pieces, state: 'committing', digest })
        yield to({ at: 'read' }, closed)
        if (state.losses > 0) yield to({}, { ...closed, losses: state.losses - 1 })
        break
      }
      case 'read':
        yield !lease || lease.isOut ? over() : to({ at: 'commit', seen: lease.pieces })
        break
      case 'commit': {
        if (!lease) {
          yield over()
          break
        }
        const there = state.blobs[at]
        const next = this.wrong === 'order' ? 'end' : 'hold'
        if (there && isWhole(there.pieces, data)) {
          const unused = keysOf(seen).filter((key) => !keysOf(there.pieces).includes(key))
          yield to({ at: next }, { ...this.#held(state, at, UPLOAD), data: without(data, unused.join('')) })
        } else {
          const blob = { pieces: seen, holders: (there?.holders ?? 0) | UPLOAD }
          yield to({ at: next }, { blobs: state.blobs.with(at, blob) })
        }
        break
      }
      case 'hold':
        if (!state.blobs[at]) yield over()
        else yield to({ at: 'add', hold: state.hold }, this.#held(state, at, 1 << state.hold))
        break
      case 'add': {
        if (this.#isOver(state, request.hold) && this.wrong !== 'expired') {
          yield this.#again(state, to, over)
          break
        }
        // What is only asked for is added nowhere.
        if (asked.is === 'ask' && state.keys[at] === -1) {
          yield over()
          break
        }
        const holder = this.wrong === 'had' ? 0 : 1 << request.hold
        yield to({ at: 'sure' }, this.#added(state, at, holder))
        break
      }
      case 'sure': {
        if (this.#isOver(state, request.hold) && this.wrong !== 'expired') {
          yield this.#again(state, to, over)
          break
        }
        // A client that is told of the blob counts on it for as long as a hold that is made now.
        const hold = this.#isOver(state, request.hold) ? HOLDS - 1 : request.hold
        const told = this.#promised(state, at, hold)
        yield this.wrong === 'order' || asked.is === 'ask' ? over(told) : to({ at: 'end' }, told)
        break
      }
      case 'end': {
        const ended = lease?.run === run ? leased(undefined) : {}
        if (this.wrong === 'order') yield to({ at: 'hold' }, { ...ended, ...this.#promised(state, at, state.hold) })
        else yield to({ at: 'list' }, ended)
        break
      }
      case 'out':
        if (lease?.run !== run) yield over()
        else if (this.wrong === 'out') yield to({ at: 'end' })
        else yield to({ at: 'end' }, leased({ ...lease, isOut: true }))
        break
      case 'list': {
        const listed = thereIn(data)
        yield listed === '' ? over() : to({ at: 'alive', listed })
        break
      }
      case 'alive':
        yield lease ? over() : to({ at: 'named' })
        break
      case 'named': {
        const listed = unnamed(request.listed, [state.blobs[at]])
        yield listed === '' ? over() : to({ at: 'delete', listed })
        break
      }
      case 'delete':
        yield over({ data: without(data, request.listed) })
    }
  }

  *#reaper(state: State): Generator<State> {
    const { reaper, lease, data } = state
    const to = (next: Partial<Reaper>, change: Partial<State> = {}): State => {
      const after = { ...state, ...change }
      return { ...after, reaper: { ...after.reaper, ...next } }
    }
    switch (reaper.at) {
      case 'watch':
        if (lease && reaper.left > 0) yield to({ at: 'end', left: reaper.left - 1, isUnchanged: true })
        break
      case 'end':
        if (lease && (reaper.isUnchanged || this.wrong === 'unchanged'))
          yield to({ at: 'list' }, { ...this.#leased(state, undefined), isRobbed: !reaper.isUnchanged })
        else yield to({ at: 'watch' })
        break
      case 'list': {
        const listed = thereIn(data)
        yield listed === '' ? to({ at: 'watch' }) : to({ at: 'alive', listed })
        break
      }
      case 'alive':
        yield lease ? to({ at: 'watch', listed: '' }) : to({ at: 'named' })
        break
      case 'named':
        yield to({
          at: 'delete',
          listed: this.wrong === 'records' ? reaper.listed : unnamed(reaper.listed, state.blobs),
        })
        break
      case 'delete':
        yield to({ at: 'watch', listed: '' }, { data: without(data, reaper.listed) })
    }
  }

  *#collector(state: State): Generator<State> {
    const { collector, lease, data } = state
    const to = (next: Partial<Collector>, change: Partial<State> = {}): State => ({
      ...state,
      ...change,
      collector: { ...collector, ...next },
    })
    const live = (holders: number): number =>
      (holders & (~state.over & (PUT | (PUT - 1)))) | (lease ? holders & UPLOAD : 0)
    switch (collector.at) {
      case 'list':
        if (collector.left > 0 && (thereIn(data) !== '' || state.keys.some((key) => key !== -1)))
          yield to({ at: 'live', left: collector.left - 1, blobs: state.blobs, keys: state.keys })
        break
      case 'live':
        yield to({
          at: 'references',
          blobs: collector.blobs.map((blob) => (blob && live(blob.holders) ? undefined : blob)),
          keys: collector.keys.map((key) => (key === -1 || live(holdersOf(key)) ? -1 : key)),
        })
        break
      case 'references': {
        const isFree = (at: number): boolean => !(state.named && this.#digests[at] === this.scene.manifest)
        const blobs = collector.blobs.map((blob, at) => (isFree(at) ? blob : undefined))
        const keys = collector.keys.map((key, at) => (isFree(at) ? key : -1))
        yield to({ at: 'retire', blobs, keys })
        break
      }
      case 'retire': {
        // Only what is as it was listed.
        const gone = collector.blobs.map((blob, at) =>
          blob !== undefined && state.blobs[at] === blob ? blob : undefined,
        )
        yield to({ at: 'delete', blobs: gone }, { blobs: state.blobs.map((blob, at) => (gone[at] ? undefined : blob)) })
        break
      }
      case 'delete': {
        const keys = collector.blobs.flatMap((blob) => keysOf(blob?.pieces ?? '')).join('')
        yield to({ at: 'keys', blobs: [] }, { data: without(data, keys) })
        break
      }
      case 'keys': {
        const keys = state.keys.map((key, at) => (key !== -1 && collector.keys[at] === key ? -1 : key))
        yield to({ at: 'unnamed', keys: [] }, { keys })
        break
      }
      case 'unnamed': {
        const listed = thereIn(data)
        yield listed === '' ? to({ at: 'list' }) : to({ at: 'alive', listed })
        break
      }
      case 'alive':
        yield lease ? to({ at: 'list', listed: '' }) : to({ at: 'named' })
        break
      case 'named':
        yield to({ at: 'drop', listed: unnamed(collector.listed, state.blobs) })
        break
      case 'drop':
        yield to({ at: 'list', listed: '' }, { data: without(data, collector.listed) })
    }
  }

  *#put(state: State): Generator<State> {
    const { manifest } = this.scene
    if (manifest === undefined || state.put === 'over') return
    const at = this.#digests.indexOf(manifest)
    const isOver = (state.over & PUT) !== 0
    const to = (put: State['put'], change: Partial<State> = {}): State => ({ ...state, ...change, put })
    // An observer takes its process for dead.
    if (!isOver && state.put !== 'visible') yield { ...state, over: state.over | PUT }
    const blob = state.blobs[at]
    switch (state.put) {
      case 'add':
        if (state.keys[at] !== -1) yield to('hold', this.#added(state, at, this.wrong === 'put' ? 0 : PUT))
        break
      case 'hold':
        yield blob ? to('look', this.wrong === 'put' ? {} : this.#held(state, at, PUT)) : to('over')
        break
      case 'look':
        yield isOver || !blob || !isWhole(blob.pieces, state.data) ? to('over') : to('name')
        break
      case 'name':
        yield isOver ? to('over') : to('visible', { named: true })
        break
      case 'visible':
        if (!isOver) yield { ...state, over: state.over | PUT }
        else yield to('over', { named: false })
    }
  }

  #isRefused(lease: Lease | undefined, asked: Asked): boolean {
    if (!lease || lease.isOut) return true
    const text = textOf(lease.pieces)
    if (asked.is === 'append') return lease.state === 'committing' || asked.start !== text.length
    if (asked.is !== 'finish') return false
    if (lease.state === 'committing') return lease.digest !== asked.digest && this.wrong !== 'digest'
    return text + (asked.chunk ?? '') !== asked.digest
  }

  /** `PushHolds.hold`: once more, with a new lease. */
  #again(state: State, to: (next: Partial<Request>, change?: Partial<State>) => State, over: () => State): State {
    return this.#isOver(state, state.hold) && state.hold === HOLDS - 1
      ? over()
      : to({ at: 'hold' }, { hold: this.#isOver(state, state.hold) ? state.hold + 1 : state.hold })
  }

  #promised(state: State, at: number, hold: number): Partial<State> {
    return { hold: Math.max(state.hold, hold), promised: state.promised.with(at, state.promised[at]! | (1 << hold)) }
  }

  #isOver(state: State, hold: number): boolean {
    return (state.over & (1 << hold)) !== 0
  }

  /** Any write of the lease is a change that the reaper sees. */
  #leased(state: State, lease: Lease | undefined): Partial<State> {
    const wasOver = state.wasOver || lease === undefined
    return { lease, wasOver, reaper: { ...state.reaper, isUnchanged: false } }
  }

  #held(state: State, at: number, holder: number): Partial<State> {
    const blob = state.blobs[at]!
    // Who holds it already writes nothing.
    if (blob.holders & holder) return {}
    return { blobs: state.blobs.with(at, { ...blob, holders: blob.holders | holder }) }
  }

  #added(state: State, at: number, holder: number): Partial<State> {
    const key = state.keys[at]!
    if (key !== -1 && holdersOf(key) & holder) return {}
    return { keys: state.keys.with(at, key === -1 ? holder : key + WRITE + holder) }
  }

  /** Whether the store has nothing of the upload any more. */
  #isForgotten({ lease, wasOver, data, blobs }: State): boolean {
    return wasOver && !lease && thereIn(data) === '' && blobs.every((blob) => !blob)
  }

  keyOf(state: State): string {
    const { lease, collector: c, reaper: r } = state
    const blobs = state.blobs.map((blob) => (blob ? `${blob.pieces}.${blob.holders}` : '-')).join()
    // A collector compares what it has listed with what is there, and reads its holders and pieces.
    const listed = c.blobs.map((blob, at) =>
      blob ? `${blob === state.blobs[at] ? '=' : '!'}${blob.pieces}.${blob.holders}` : '-',
    )
    const keys = state.keys.map((key) => (key === -1 ? '-' : holdersOf(key)))
    const listedKeys = c.keys.map((key, at) =>
      key === -1 ? '-' : `${key === state.keys[at] ? '=' : '!'}${holdersOf(key)}`,
    )
    const requests = state.requests.map((q) => `${q.at}${q.asked}${q.seen}.${q.own}.${q.digest}.${q.hold}${q.listed}`)
    return [
      lease ? `${lease.run}${lease.state}${lease.pieces}.${lease.digest}${lease.isOut}` : state.wasOver,
      state.data,
      blobs,
      keys,
      `${state.over}${state.hold}${state.losses}${state.named}${state.isRobbed}${state.put}${state.said}`,
      state.promised,
      requests,
      `${r.at}${r.left}${r.isUnchanged}${r.listed}`,
      `${c.at}${c.left}${listed.join()}.${listedKeys.join()}.${c.listed}`,
    ].join(' ')
  }
}

/** There are few, and each is read in every state. */
const read = new Map<Pieces, { readonly text: string; readonly keys: readonly number[] }>()

function partsOf(pieces: Pieces): { readonly text: string; readonly keys: readonly number[] } {
  const found = read.get(pieces) ?? {
    text: pieces.replaceAll(/\d/g, ''),
    keys: Array.from(pieces.replaceAll(/\D/g, ''), Number),
  }
  read.set(pieces, found)
  return found
}

function textOf(pieces: Pieces): string {
  return partsOf(pieces).text
}

function keysOf(pieces: Pieces): readonly number[] {
  return partsOf(pieces).keys
}

/** Whether the bytes of all pieces are there, and are those that were hashed. */
function isWhole(pieces: Pieces, data: string): boolean {
  return keysOf(pieces).every((key, at) => data[key] === pieces[2 * at])
}

function put(data: string, key: number, chunk: string): string {
  return data.slice(0, key) + chunk + data.slice(key + 1)
}

function without(data: string, keys: string): string {
  return Array.from(data, (letter, key) => (keys.includes(String(key)) ? '-' : letter)).join('')
}

function thereIn(data: string): string {
  return Array.from(data, (letter, key) => (letter === '-' ? '' : String(key))).join('')
}

/** Of these keys, those that no blob's record names. */
function unnamed(keys: string, blobs: readonly (Blob | undefined)[]): string {
  const named = blobs.flatMap((blob) => keysOf(blob?.pieces ?? ''))
  return Array.from(keys)
    .filter((key) => !named.includes(Number(key)))
    .join('')
}

/** Tries every interleaving. */
export function exploreUploads(scene: UploadScene, wrong?: UploadRule): Verdict {
  return explore(new Registry(scene, wrong))
}
