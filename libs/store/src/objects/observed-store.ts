import { asStrataError } from '@strata/base'
import type { ObjectStore } from './object-store.js'

/** The methods whose calls are told, those of a store's abilities too. */
const OPERATIONS = [
  'put',
  'get',
  'read',
  'stat',
  'create',
  'replace',
  'list',
  'delete',
  'removeUnchanged',
  'openLocal',
  'createLocal',
  'sealLocal',
  'beginPut',
  'appendPut',
  'completePut',
  'abortPut',
] as const
type StoreOperation = (typeof OPERATIONS)[number]

const FAULTS = ['store_unavailable', 'storage_full', 'cancelled'] as const
/** `other`: what the source of a `put` threw, or a call that the store refuses. */
type StoreOutcome = 'ok' | 'other' | (typeof FAULTS)[number]

/** Gets each call of a store when its promise has settled. */
export type StoreObserver = (operation: StoreOperation, outcome: StoreOutcome, seconds: number) => void

/**
 * The store, with every call told to `observe`. It has the abilities that the store has. Calls that
 * the store makes of itself are not told.
 */
export function observedStore<S extends ObjectStore>(store: S, observe: StoreObserver): S {
  const methods = new Map<PropertyKey, unknown>()
  return new Proxy(store, {
    get: (target, name) => {
      const known = methods.get(name)
      if (known !== undefined) return known
      const member: unknown = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      const bound = member.bind(target) as Call
      const method = isOperation(name) ? told(name, bound, observe) : bound
      methods.set(name, method)
      return method
    },
  })
}

type Call = (...args: unknown[]) => unknown

function told(operation: StoreOperation, call: Call, observe: StoreObserver): Call {
  return async (...args) => {
    const begun = performance.now()
    let outcome: StoreOutcome = 'ok'
    try {
      return await call(...args)
    } catch (error) {
      outcome = outcomeOf(error)
      throw error
    } finally {
      observe(operation, outcome, (performance.now() - begun) / 1_000)
    }
  }
}

function isOperation(name: PropertyKey): name is StoreOperation {
  return OPERATIONS.some((operation) => operation === name)
}

function outcomeOf(error: unknown): StoreOutcome {
  const { code } = asStrataError(error)
  return FAULTS.find((fault) => fault === code) ?? 'other'
}
