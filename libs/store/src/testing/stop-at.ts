import type { ObjectStore } from '../objects/object-store.js'

type Method = Exclude<keyof ObjectStore, 'close'>

/** A call at which a process stands still until `goOn`. */
export interface Stop {
  readonly reached: Promise<void>
  goOn(): void
}

/**
 * The same store for a process that stands still before the first call of one of these methods with
 * that key.
 */
export function stopAt(
  store: ObjectStore,
  methods: readonly Method[],
  key: string,
): { readonly store: ObjectStore; readonly stop: Stop } {
  const [reached, released] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
  let isPast = false
  const stopping = new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return (...args: unknown[]): unknown => {
        const call = (): unknown => (member as (...args: unknown[]) => unknown).apply(target, args)
        if (isPast || !methods.includes(name as Method) || ![args[0]].flat().includes(key)) return call()
        isPast = true
        reached.resolve(undefined)
        return released.promise.then(call)
      }
    },
  })
  return { store: stopping, stop: { reached: reached.promise, goOn: () => released.resolve(undefined) } }
}
