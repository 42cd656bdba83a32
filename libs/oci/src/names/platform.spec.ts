import { describe, expect, it } from 'vitest'
import { formatPlatform, HOST_PLATFORM, matchesPlatform, parsePlatform } from './platform.js'

describe('a platform', () => {
  it.each([
    ['linux/arm64', 'linux/arm64'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['linux/aarch64', 'linux/arm64'],
    ['linux/arm/v7', 'linux/arm/v7'],
    ['linux/armhf', 'linux/arm/v7'],
    ['Linux/AMD64', 'linux/amd64'],
    ['linux/x86_64', 'linux/amd64'],
    ['windows/amd64', 'windows/amd64'],
    ['linux/amd64/v3', 'linux/amd64/v3'],
  ])('%s is %s', (text, expected) => {
    expect(formatPlatform(parsePlatform(text))).toBe(expected)
  })

  it.each([
    '',
    'linux',
    'linux/',
    '/amd64',
    'linux/a/b/c',
    'linux/am d64',
    'linux/../x\n',
    '../../x',
    'linux/..',
    'all',
  ])('%j is none', (text) => {
    expect(() => parsePlatform(text)).toThrow(/is not a platform/)
  })

  it.each([
    ['linux/arm64/v8', 'linux/arm64', true],
    ['linux/arm64', 'linux/arm64/v8', true],
    ['linux/arm/v6', 'linux/arm', true],
    ['linux/arm/v6', 'linux/arm/v7', false],
    ['linux/arm64', 'linux/amd64', false],
    ['windows/amd64', 'linux/amd64', false],
  ])('an image for %s for who wants %s: %s', (has, wanted, expected) => {
    expect(matchesPlatform(parsePlatform(has), parsePlatform(wanted))).toBe(expected)
  })

  it('of an image’s words only those that are some are shown', () => {
    expect(formatPlatform({ os: '', architecture: '../x', variant: '\u001b[2J' })).toBe('unknown/unknown')
  })

  it('that an image leaves open is this machine’s', () => {
    expect(matchesPlatform({ os: '', architecture: '' }, HOST_PLATFORM)).toBe(true)
  })
})
