import { StrataError } from '@strata/base'
import { diffIdsOf, type Descriptor, type ImageConfig } from './image.js'

/** One bound: what of a config is measured, and how much of it there may be. */
export interface ImageLimit {
  /** In a sentence: `its config has 1001 volumes`. */
  readonly what: string
  readonly most: number
  readonly measure: (config: ImageConfig) => number
}

/**
 * What the config of an image may hold, in one table. An image's JSON has at most 4 MiB; that alone
 * lets a kilobyte of gzip ask for a hundred thousand folders, or for a process that no kernel
 * starts. The numbers are the kernel's where it has one (execve(2): 128 KiB a word;
 * path_resolution(7): 4,095 bytes a path), docker's API's, or far above what any image in use has.
 *
 * It is held against configs where they come in (`expectConfig`): in archives, by changes of an
 * import, wherever `Images.put` is given one. What was stored before there was such a table stays
 * readable, so that it can be listed, saved and removed, and is refused when it is to run.
 */
export const IMAGE_LIMITS = {
  // What overlayfs stacks (OVL_MAX_STACK). EROFS stacks more, but an image is to run on every node.
  layers: { what: 'layers', most: 500, measure: (config) => diffIdsOf(config).length },
  history: { what: 'steps of history', most: 10_000, measure: ({ history }) => history?.length ?? 0 },
  historyText: {
    what: 'bytes in a step of its history',
    most: 1024 * 1024,
    measure: ({ history }) => longest((history ?? []).flatMap((step) => [step.created_by, step.comment])),
  },
  env: { what: 'environment variables', most: 10_000, measure: ({ config }) => config?.Env?.length ?? 0 },
  entrypoint: {
    what: 'words in its entrypoint',
    most: 10_000,
    measure: ({ config }) => config?.Entrypoint?.length ?? 0,
  },
  cmd: { what: 'words in its command', most: 10_000, measure: ({ config }) => config?.Cmd?.length ?? 0 },
  word: {
    what: 'bytes in a word of its command or environment',
    most: 128 * 1024 - 1,
    measure: (config) => longest(wordsOf(config)),
  },
  words: {
    what: 'bytes in its command and environment',
    most: 1024 * 1024,
    measure: (config) => total(wordsOf(config)),
  },
  ports: { what: 'exposed ports', most: 200_000, measure: ({ config }) => config?.ExposedPorts.length ?? 0 },
  port: { what: 'bytes in an exposed port', most: 64, measure: ({ config }) => longest(config?.ExposedPorts ?? []) },
  volumes: { what: 'volumes', most: 1_000, measure: ({ config }) => config?.Volumes.length ?? 0 },
  volume: {
    what: 'bytes in the path of a volume',
    most: 4_095,
    measure: ({ config }) => longest(config?.Volumes ?? []),
  },
  volumeBytes: {
    what: 'bytes in the paths of its volumes',
    most: 64 * 1024,
    measure: ({ config }) => total(config?.Volumes ?? []),
  },
  folders: {
    what: 'folders in the paths of its volumes',
    most: 4_096,
    measure: ({ config }) => (config?.Volumes ?? []).reduce((sum, path) => sum + depthOf(path), 0),
  },
  depth: {
    what: 'folders in the path of a volume or its working directory',
    most: 256,
    measure: ({ config }) => deepest([...(config?.Volumes ?? []), config?.WorkingDir ?? '']),
  },
  workdir: {
    what: 'bytes in its working directory',
    most: 4_095,
    measure: ({ config }) => longest([config?.WorkingDir ?? '']),
  },
  user: { what: 'bytes in its user', most: 256, measure: ({ config }) => longest([config?.User ?? '']) },
  stopSignal: {
    what: 'bytes in its stop signal',
    most: 64,
    measure: ({ config }) => longest([config?.StopSignal ?? '']),
  },
  hostname: { what: 'bytes in its host name', most: 256, measure: ({ config }) => longest([config?.Hostname ?? '']) },
  labels: { what: 'labels', most: 10_000, measure: ({ config }) => Object.keys(config?.Labels ?? {}).length },
  label: {
    what: 'bytes in a label',
    most: 1024 * 1024,
    measure: ({ config }) => longest(Object.entries(config?.Labels ?? {}).flat()),
  },
  platform: {
    what: 'bytes in its architecture, system or variant',
    most: 128,
    measure: ({ architecture, os, variant }) => longest([architecture, os, variant ?? '']),
  },
  created: {
    what: 'bytes in a time',
    most: 128,
    measure: ({ created, history }) => longest([created ?? '', ...(history ?? []).map((step) => step.created ?? '')]),
  },
  author: { what: 'bytes in its author', most: 64 * 1024, measure: ({ author }) => longest([author ?? '']) },
} as const satisfies Record<string, ImageLimit>
export type ImageLimitName = keyof typeof IMAGE_LIMITS

/** Annotations of one descriptor. */
export const MAX_ANNOTATIONS = 1_000

/**
 * @param what in a sentence: `the config of alpine`
 * @throws StrataError `limit_exceeded`, which names the limit
 */
export function expectConfig(config: ImageConfig, what: string): void {
  for (const limit of Object.values<ImageLimit>(IMAGE_LIMITS)) {
    const found = limit.measure(config)
    if (found > limit.most)
      throw new StrataError('limit_exceeded', `${what} has ${found} ${limit.what}; the limit is ${limit.most}`)
  }
}

/** @throws StrataError `limit_exceeded` */
export function expectDescriptors(descriptors: readonly Descriptor[], what: string): void {
  for (const { digest, annotations } of descriptors) {
    const found = Object.keys(annotations).length
    if (found > MAX_ANNOTATIONS)
      throw new StrataError(
        'limit_exceeded',
        `${what} has ${found} annotations of ${digest}; the limit is ${MAX_ANNOTATIONS}`,
      )
  }
}

function wordsOf({ config }: ImageConfig): readonly string[] {
  return [...(config?.Env ?? []), ...(config?.Entrypoint ?? []), ...(config?.Cmd ?? [])]
}

function longest(texts: readonly string[]): number {
  return texts.reduce((most, text) => Math.max(most, Buffer.byteLength(text)), 0)
}

function total(texts: readonly string[]): number {
  return texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
}

function deepest(paths: readonly string[]): number {
  return paths.reduce((most, path) => Math.max(most, depthOf(path)), 0)
}

function depthOf(path: string): number {
  return path.split('/').filter((part) => part !== '' && part !== '.').length
}
