import { Injectable } from '@nestjs/common'
import { containerSchema, type ContainerView } from '@strata/api'
import { StrataError } from '@strata/oci'
import { NodeDirectory } from '@strata/queue'

/** All nodes' containers, as the nodes published them. */
@Injectable()
export class ContainerDirectory {
  constructor(private readonly nodes: NodeDirectory) {}

  /** The newest first. */
  async list(): Promise<ContainerView[]> {
    const views = (await this.nodes.containers()).map((value) => containerSchema.parse(value))
    return views.sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1))
  }

  /** By id, name, or the unique beginning of an id: as docker, a full id first, then a name, then a prefix. */
  async find(text: string): Promise<ContainerView> {
    const all = await this.list()
    const exact = all.find(({ id }) => id === text) ?? all.find(({ name }) => name === text)
    if (exact) return exact
    const fits = /^[0-9a-f]+$/.test(text) ? all.filter(({ id }) => id.startsWith(text)) : []
    if (fits.length > 1) throw new StrataError('container_ambiguous', `${text} is the beginning of ${fits.length} container ids`)
    const [found] = fits
    if (!found) throw new StrataError('container_not_found', `no such container: ${text}`)
    return found
  }
}
