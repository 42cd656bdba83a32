import { Injectable } from '@nestjs/common'
import { API_VERSION, type InfoView, type VersionView } from '@strata/api'
import { Images } from '@strata/images'
import { NodeDirectory } from '@strata/queue'
import { ContainerDirectory } from '../containers/container-directory.js'
import { VERSION } from '../version.js'

/** Versions, and what this installation has. */
@Injectable()
export class SystemService {
  constructor(
    private readonly images: Images,
    private readonly containers: ContainerDirectory,
    private readonly nodes: NodeDirectory,
  ) {}

  version(): VersionView {
    return { version: VERSION, api: API_VERSION, node: process.version }
  }

  async info(gone: AbortSignal): Promise<InfoView> {
    const [images, containers, nodes] = await Promise.all([
      this.images.list(),
      this.containers.list(gone),
      this.nodes.list(),
    ])
    const count = (state: string): number => containers.filter((container) => container.state === state).length
    return {
      version: VERSION,
      images: images.length,
      containers: {
        running: count('running'),
        exited: count('exited'),
        created: count('created'),
        unknown: count('unknown'),
      },
      nodes: nodes.map(({ id, driver, driverReason, runtime, kernel, warnings }) => ({
        id,
        driver,
        driverReason,
        runtime,
        kernel,
        warnings,
      })),
    }
  }
}
