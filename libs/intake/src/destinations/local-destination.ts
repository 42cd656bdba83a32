import { dirname } from 'node:path'
import { keys, listAll, type LocalObjects, type ObjectStore } from '@strata/store'
import type { Destination } from './destination.js'
import { SMALL_NAME } from './placement.js'

/**
 * Objects that are files of this machine: the pair's writing thread fills them in place
 * (`EntryWriter`).
 */
export class LocalDestination implements Destination {
  folder = ''

  constructor(
    private readonly store: ObjectStore & LocalObjects,
    private readonly upload: string,
  ) {}

  /** Making the object of small files twice fails. */
  async claim(): Promise<void> {
    this.folder = dirname(await this.store.createLocal(keys.data(this.upload, SMALL_NAME)))
  }

  write(): Promise<void> {
    return Promise.resolve()
  }

  async seal(large: readonly string[]): Promise<void> {
    for (const name of [SMALL_NAME, ...large]) await this.store.sealLocal(keys.data(this.upload, name))
  }

  async discard(): Promise<void> {
    const left: string[] = []
    for await (const { key } of listAll(this.store, keys.dataOf(this.upload))) left.push(key)
    await this.store.delete(left)
  }
}
