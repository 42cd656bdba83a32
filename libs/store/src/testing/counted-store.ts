import type { ObjectStore } from '../objects/object-store.js'

/** Calls of each method, and how many objects lists gave (`listed`). */
export type Calls = Readonly<Record<string, number>>

/** The same store, and the calls of it since the last time that one asked. */
export function counted<S extends ObjectStore>(store: S): { store: S; calls: () => Calls } {
  let found: Record<string, number> = {}
  const count = (what: string, by = 1) => (found[what] = (found[what] ?? 0) + by)
  const counting = new Proxy(store, {
    get: (target, name: keyof ObjectStore) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      if (name === 'list')
        return async (...args: Parameters<ObjectStore['list']>) => {
          const page = await target.list(...args)
          count('list')
          count('listed', page.objects.length)
          return page
        }
      return (...args: unknown[]) => {
        count(name)
        return (member as (...args: unknown[]) => unknown).apply(target, args)
      }
    },
  })
  const calls = () => {
    const seen = found
    found = {}
    return seen
  }
  return { store: counting, calls }
}
