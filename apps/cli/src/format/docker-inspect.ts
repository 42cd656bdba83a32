import type { ContainerView, ImageView } from '@strata/api'
import { splitName } from './table.js'

/** As docker writes a time that is not there yet. */
const NEVER = '0001-01-01T00:00:00Z'

/**
 * What `docker inspect` says of a container, as far as Strata knows it, and what only Strata has,
 * by names of the same form: for templates and scripts made for docker. A Map is an object whose
 * keys are data.
 */
export function inspectedContainer(one: ContainerView): object {
  const [path = '', ...args] = one.command
  return {
    Id: one.id,
    Created: one.createdAt,
    Path: path,
    Args: args,
    State: {
      Status: one.state,
      Running: one.state === 'running',
      Paused: false,
      Restarting: false,
      OOMKilled: false,
      Dead: false,
      Pid: one.pid ?? 0,
      ExitCode: one.exitCode ?? 0,
      Error: one.reason ?? '',
      StartedAt: one.startedAt ?? NEVER,
      FinishedAt: one.finishedAt ?? NEVER,
    },
    Image: one.imageId,
    Name: `/${one.name}`,
    RestartCount: 0,
    Node: one.node,
    Starts: one.starts ?? 0,
    HostConfig: { NetworkMode: one.network, AutoRemove: one.autoRemove },
    Config: { Image: one.image },
    NetworkSettings: { Networks: new Map([[one.network, {}]]) },
  }
}

/** The same of an image. `Layers` and `History` begin at the lowest. */
export function inspectedImage(one: ImageView): object {
  const { config } = one
  const folders = (names: readonly string[]): Map<string, object> => new Map(names.map((name) => [name, {}]))
  return {
    Id: one.id,
    Digest: one.digest,
    MediaType: one.mediaType,
    Platforms: one.platforms ?? [`${one.os}/${one.architecture}`],
    RepoTags: one.names.filter((name) => !name.includes('@')),
    RepoDigests: [...new Set(one.names.map((name) => `${splitName(name)[0]}@${one.digest}`))],
    Created: one.created ?? NEVER,
    Architecture: one.architecture,
    Os: one.os,
    Size: one.size,
    Config: {
      User: config.user,
      ExposedPorts: folders(config.exposedPorts),
      Env: config.env,
      Entrypoint: config.entrypoint,
      Cmd: config.cmd,
      Volumes: folders(config.volumes),
      WorkingDir: config.workdir,
      Labels: new Map(Object.entries(config.labels)),
      StopSignal: config.stopSignal,
    },
    RootFS: { Type: 'layers', Layers: one.layers.map(({ diffId }) => diffId) },
    Layers: one.layers.map(({ digest, diffId, chainId, size, mediaType }) => ({
      Digest: digest,
      DiffId: diffId,
      ChainId: chainId,
      Size: size,
      MediaType: mediaType,
    })),
    History: one.history.map(({ created, createdBy, comment, diffId }) => ({
      Created: created ?? NEVER,
      CreatedBy: createdBy,
      Comment: comment,
      DiffId: diffId ?? '',
    })),
  }
}
