import { MEDIA } from '@strata/oci'
import { expect, it } from 'vitest'
import { isAccepted } from './accept.js'

const { manifest, index, dockerManifest } = MEDIA
it.each([
  [undefined, manifest, true],
  ['', manifest, true],
  ['*/*', manifest, true],
  ['application/json', manifest, true],
  ['text/html,application/xml;q=0.9', manifest, true],
  [manifest, manifest, true],
  [`${dockerManifest}, ${manifest};q=0.5`, manifest, true],
  [manifest.toUpperCase(), manifest, true],
  [dockerManifest, manifest, false],
  [`${manifest},${dockerManifest}`, index, false],
  [`${dockerManifest},*/*;q=0.1`, index, true],
  [`application/*,${manifest};q=0`, manifest, false],
  ['*/*;q=0', manifest, false],
])('Accept %s: a client takes %s: %s', (accept, mediaType, taken) => {
  expect(isAccepted(accept, mediaType)).toBe(taken)
})
