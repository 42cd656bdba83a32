import { explore, remembered, type Model, type Verdict } from '@strata/base/testing'

/**
 * A model for name-marks-model.spec.ts of the law of `NameMarks`. It is small enough to try every
 * interleaving: two writers set one name, each to an image of its own or both to the same; the name
 * may be removed; the collection tidies marks. Each of them may die at any step. One step here is
 * one request to the store.
 *
 * The law: while a name exists, the name mark and the id mark that its record has exist too.
 *
 * The `wrong` rules each leave out one thing that looks superfluous. The spec shows that without it
 * the law breaks:
 * - `late`: the marks are made after the name;
 * - `early`: the marks of the image that had the name are deleted before the name is changed;
 * - `shared`: a mark has no fresh id, so two writes of one image have the same;
 * - `renew`: a mark that no name has is deleted without first making a write of that name fail;
 * - `again`: after that write was made to fail, the name is not read once more;
 * - `order`: the id mark is made before the name mark;
 * - `lists`: the tidier lists the name marks before the id marks;
 * - `nothing`: an absent name is written without a tombstone first, on a store that deletes
 *   tombstones.
 */
export type WrongMarks = 'late' | 'early' | 'shared' | 'renew' | 'again' | 'order' | 'lists' | 'nothing'

/** `removes`: the store deletes tombstones. `same`: both writers give the name to one image. */
export interface MarksWorld {
  readonly removes: boolean
  readonly same: boolean
}

/** What a record has: its image, and the id of its marks. */
interface Carried {
  readonly image: 0 | 1
  readonly mark: number
}
/** A record; without `value` it is a tombstone. `null`: nothing is there. */
type Rec = { readonly value?: Carried; readonly rev: number } | null

type Actor =
  | { readonly at: 'over' }
  | { readonly at: 'look'; readonly attempts: number }
  /** `old`: the marks to delete afterwards. `isKept`: the record's own marks are used again. */
  | {
      readonly at: 'first mark' | 'second mark' | 'write' | 'early'
      readonly seen: Rec
      readonly mark: number
      readonly isKept: boolean
      readonly attempts: number
    }
  | { readonly at: 'delete id' | 'delete name'; readonly marks: number; readonly attempts: number }
  | { readonly at: 'late name' | 'late id'; readonly mark: number }

type Remover =
  | { readonly at: 'look' | 'over' }
  | { readonly at: 'retire' | 'early'; readonly seen: NonNullable<Rec> }
  | { readonly at: 'delete id' | 'delete name'; readonly mark: number }

interface Tidier {
  readonly at: 'ids' | 'names' | 'standing' | 'mark' | 'renew' | 'again' | 'delete' | 'lost' | 'over'
  readonly ids: readonly number[]
  readonly names: readonly number[]
  readonly left: readonly number[]
}

interface State {
  readonly name: Rec
  readonly rev: number
  readonly nextMark: number
  readonly nameMarks: readonly number[]
  readonly idMarks: readonly number[]
  readonly writers: readonly [Actor, Actor]
  readonly remover: Remover
  readonly tidier: Tidier
}

class Marking implements Model<State> {
  readonly first: State = {
    name: null,
    rev: 1,
    // The first two stand for the images where marks are shared.
    nextMark: 2,
    nameMarks: [],
    idMarks: [],
    writers: [
      { at: 'look', attempts: 2 },
      { at: 'look', attempts: 1 },
    ],
    remover: { at: 'look' },
    tidier: { at: 'ids', ids: [], names: [], left: [] },
  }
  constructor(
    private readonly world: MarksWorld,
    private readonly wrong: WrongMarks | undefined,
  ) {}

  brokenLaw({ name, nameMarks, idMarks }: State): string | undefined {
    const mark = name?.value?.mark
    return mark !== undefined && !(nameMarks.includes(mark) && idMarks.includes(mark))
      ? 'a name has no mark'
      : undefined
  }

  keyOf({ name, nextMark, nameMarks, idMarks, writers, remover, tidier }: State): string {
    return [
      recKey(name),
      nextMark,
      nameMarks,
      idMarks,
      actorKey(writers[0], name),
      actorKey(writers[1], name),
      removerKey(remover, name),
      tidier.at,
      tidier.ids,
      tidier.names,
      tidier.left,
    ].join(' ')
  }

  *steps(state: State): Generator<State, void, void> {
    for (const i of [0, 1] as const) yield* this.#writer(state, i)
    yield* this.#remover(state)
    yield* this.#tidier(state)
  }

  *#writer(state: State, i: 0 | 1): Generator<State, void, void> {
    const actor = state.writers[i]
    const image = this.world.same ? 0 : i
    const to = (next: Actor, change: Partial<State> = {}): State => ({
      ...state,
      ...change,
      writers: state.writers.with(i, next) as unknown as State['writers'],
    })
    const isIdFirst = this.wrong === 'order'
    const again = (attempts: number): Actor => (attempts > 0 ? { at: 'look', attempts } : { at: 'over' })
    switch (actor.at) {
      case 'look': {
        const { name } = state
        if (name === null && this.world.removes && this.wrong !== 'nothing')
          return yield to(actor, { name: { rev: state.rev }, rev: state.rev + 1 })
        const isKept = name?.value?.image === image && this.wrong !== 'shared'
        const mark = isKept ? name.value.mark : this.wrong === 'shared' ? image : state.nextMark
        const next = { seen: name, mark, isKept, attempts: actor.attempts - 1 }
        const at = isKept || this.wrong === 'late' ? 'write' : 'first mark'
        return yield to({ at, ...next }, isKept ? {} : { nextMark: state.nextMark + 1 })
      }
      case 'first mark':
        return yield to(
          { ...actor, at: 'second mark' },
          this.#made(state, actor.mark, isIdFirst ? 'idMarks' : 'nameMarks'),
        )
      case 'second mark':
        return yield to(
          { ...actor, at: this.wrong === 'early' && actor.seen?.value ? 'early' : 'write' },
          this.#made(state, actor.mark, isIdFirst ? 'nameMarks' : 'idMarks'),
        )
      case 'early':
        return yield to({ ...actor, at: 'write' }, this.#deleted(state, actor.seen?.value?.mark, 'idMarks'))
      case 'write': {
        const { seen, mark, isKept, attempts } = actor
        if (!isSame(state.name, seen))
          return yield to(isKept ? again(attempts) : { at: 'delete id', marks: mark, attempts })
        const change = { name: { value: { image, mark }, rev: state.rev }, rev: state.rev + 1 } as const
        if (this.wrong === 'late' && !isKept) return yield to({ at: 'late name', mark }, change)
        const old = seen?.value?.mark
        if (isKept || old === undefined || old === mark) return yield to({ at: 'over' }, change)
        return yield to({ at: 'delete id', marks: old, attempts: 0 }, change)
      }
      case 'late name':
        return yield to({ at: 'late id', mark: actor.mark }, this.#made(state, actor.mark, 'nameMarks'))
      case 'late id':
        return yield to({ at: 'over' }, this.#made(state, actor.mark, 'idMarks'))
      case 'delete id':
        return yield to({ ...actor, at: 'delete name' }, this.#deleted(state, actor.marks, 'idMarks'))
      case 'delete name':
        return yield to(again(actor.attempts), this.#deleted(state, actor.marks, 'nameMarks'))
      case 'over':
    }
  }

  *#remover(state: State): Generator<State, void, void> {
    const { remover, name } = state
    const to = (next: Remover, change: Partial<State> = {}): State => ({ ...state, ...change, remover: next })
    switch (remover.at) {
      case 'look':
        if (name?.value) yield to({ at: this.wrong === 'early' ? 'early' : 'retire', seen: name })
        return
      case 'early':
        return yield to({ at: 'retire', seen: remover.seen }, this.#deleted(state, remover.seen.value?.mark, 'idMarks'))
      case 'retire': {
        if (!isSame(name, remover.seen)) return yield to({ at: 'look' })
        const gone = { name: this.world.removes ? null : { rev: state.rev }, rev: state.rev + 1 }
        return yield to({ at: 'delete id', mark: remover.seen.value!.mark }, gone)
      }
      case 'delete id':
        return yield to({ at: 'delete name', mark: remover.mark }, this.#deleted(state, remover.mark, 'idMarks'))
      case 'delete name':
        return yield to({ at: 'over' }, this.#deleted(state, remover.mark, 'nameMarks'))
      case 'over':
    }
  }

  *#tidier(state: State): Generator<State, void, void> {
    const { tidier, name } = state
    const to = (next: Partial<Tidier>, change: Partial<State> = {}): State => ({
      ...state,
      ...change,
      tidier: { ...tidier, ...next },
    })
    const [mark, ...others] = tidier.names
    const leave = (): Partial<Tidier> => ({ at: 'mark', names: others, left: [...tidier.left, mark!] })
    switch (tidier.at) {
      case 'ids':
        return yield this.wrong === 'lists'
          ? to({ at: 'names', names: state.nameMarks })
          : to({ at: 'names', ids: state.idMarks })
      case 'names':
        return yield this.wrong === 'lists'
          ? to({ at: 'standing', ids: state.idMarks })
          : to({ at: 'standing', names: state.nameMarks })
      case 'standing': {
        const left = tidier.names.filter((one) => one === name?.value?.mark)
        return yield to({ at: 'mark', left, names: tidier.names.filter((one) => !left.includes(one)) })
      }
      case 'mark':
        if (mark === undefined) yield to({ at: 'lost' })
        else if (name?.value?.mark === mark) yield to(leave())
        else yield to({ at: this.wrong === 'renew' ? 'delete' : 'renew' })
        return
      case 'renew':
        return yield to(
          { at: this.wrong === 'again' ? 'delete' : 'again' },
          { name: { ...(name?.value ? { value: name.value } : {}), rev: state.rev }, rev: state.rev + 1 },
        )
      case 'again':
        return yield to(name?.value?.mark === mark ? leave() : { at: 'delete' })
      case 'delete':
        return yield to({ at: 'mark', names: others }, this.#deleted(state, mark, 'nameMarks'))
      case 'lost': {
        const lost = tidier.ids.find((one) => !tidier.left.includes(one))
        if (lost === undefined) yield to({ at: 'over' })
        else yield to({ ids: tidier.ids.filter((one) => one !== lost) }, this.#deleted(state, lost, 'idMarks'))
        return
      }
      case 'over':
    }
  }

  #made(state: State, mark: number, kind: 'nameMarks' | 'idMarks'): Partial<State> {
    return { [kind]: [...new Set([...state[kind], mark])].sort() }
  }

  #deleted(state: State, mark: number | undefined, kind: 'nameMarks' | 'idMarks'): Partial<State> {
    return { [kind]: state[kind].filter((one) => one !== mark) }
  }
}

/** What compare-and-set compares. */
function isSame(a: Rec, b: Rec): boolean {
  return a === null || b === null ? a === b : a.rev === b.rev
}

function recKey(rec: Rec): string {
  if (rec === null) return '-'
  return rec.value ? `${rec.value.image}.${rec.value.mark}` : 'T'
}

function actorKey(actor: Actor, name: Rec): string {
  if (actor.at === 'over') return actor.at
  const attempts = 'attempts' in actor ? actor.attempts : ''
  if ('marks' in actor) return `${actor.at}${actor.marks}.${attempts}`
  if (!('seen' in actor)) return `${actor.at}${'mark' in actor ? actor.mark : ''}.${attempts}`
  const { at, seen, mark, isKept } = actor
  return `${at}${mark}${isKept ? '=' : ''}.${attempts}${remembered(seen, name, `!${recKey(seen)}`)}`
}

function removerKey(remover: Remover, name: Rec): string {
  if ('mark' in remover) return `${remover.at}${remover.mark}`
  return 'seen' in remover ? `${remover.at}${remembered(remover.seen, name, `!${recKey(remover.seen)}`)}` : remover.at
}

/** Tries every interleaving. */
export function exploreMarks(world: MarksWorld, wrong?: WrongMarks): Verdict {
  return explore(new Marking(world, wrong))
}
