import { pageOfRecords, type ObjectStore } from '@strata/store'

/** A page of a list has at most so many, whatever limit a client asks for. */
export const MAX_PAGE = 1_000

/**
 * Names below a prefix and behind `after`, in their order: at most `wanted`, and at most
 * `MAX_PAGE`. Reads no record.
 */
export async function pageOf(
  store: ObjectStore,
  prefix: string,
  wanted: number,
  after: string | undefined,
): Promise<{ readonly names: string[]; readonly next?: string }> {
  const { items, ...rest } = await pageOfRecords(
    store,
    prefix,
    (key) => key.slice(prefix.length),
    Math.min(wanted, MAX_PAGE),
    after === undefined ? undefined : `${prefix}${after}`,
  )
  return { names: items, ...rest }
}
