import { z } from 'zod'

/**
 * Pages of a list. A list is in the order of a key: an image's digest, a container's or a node's
 * id. (Jobs are in the order of their making.) A page has at most `limit` items, and fewer if they
 * have more than `PAGE_BYTES`. `next` is there if more may follow: the client passes it as `after`.
 * A page may be empty and have a `next`.
 *
 * **Law**: what is there from before the first page until after the last is in exactly one of them.
 *
 *     GET /v1/containers?all&limit=2           { "containers": […, …], "next": "4f…" }
 *     GET /v1/containers?all&limit=2&after=4f… { "containers": […] }
 */
export interface Page<T> {
  readonly items: readonly T[]
  /** No item up to this key is left out of the pages so far. */
  readonly next?: string
}

export const MAX_PAGE = 1_000
/** Of a page's items as JSON. One item alone may have more. */
export const PAGE_BYTES = 4 * 1024 * 1024

/** What every list takes. `what`: a word for its items. */
export const pageQuery = <T extends z.ZodType>(after: T, what: string) =>
  z.object({
    limit: z.coerce
      .number()
      .int()
      .min(1)
      .max(MAX_PAGE)
      .default(100)
      .meta({ description: `${what} of a page, at most; a page of very large ones has fewer` }),
    after: after.optional().meta({ description: 'the page that begins behind this one: `next` of the page before' }),
  })

/** What every list answers beside its items. */
export const nextOf = <T extends z.ZodType>(after: T, order: string) =>
  after.optional().meta({ description: `more may follow: pass it as \`after\`. Pages follow ${order}` })

/** The first page of items that are in order. Takes no more of them than it needs, and one. */
export async function firstPage<T>(
  items: AsyncIterable<T> | Iterable<T>,
  limit: number,
  keyOf: (item: T) => string,
): Promise<Page<T>> {
  const page: T[] = []
  let bytes = 0
  for await (const item of items) {
    bytes += Buffer.byteLength(JSON.stringify(item))
    const last = page.at(-1)
    if (last !== undefined && (page.length === limit || bytes > PAGE_BYTES)) return { items: page, next: keyOf(last) }
    page.push(item)
  }
  return { items: page }
}

/**
 * The first page of all these lists together, made of the first page of each. Merging page after
 * page gives the same as merging all at once, so that a caller need not have all of them.
 */
export async function mergePages<T>(
  pages: readonly Page<T>[],
  limit: number,
  keyOf: (item: T) => string,
): Promise<Page<T>> {
  // Behind its `next` a page says nothing: what another has there may not be the next item.
  const end = pages.map(({ next }) => next).reduce((a, b) => (a === undefined || (b !== undefined && b < a) ? b : a))
  const items = pages.flatMap((page) => page.items).filter((item) => end === undefined || keyOf(item) <= end)
  const merged = await firstPage(
    items.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)),
    limit,
    keyOf,
  )
  return merged.next !== undefined || end === undefined ? merged : { ...merged, next: end }
}
