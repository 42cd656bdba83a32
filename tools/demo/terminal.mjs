const colour = process.stdout.isTTY && !process.env.NO_COLOR
const paint = (code) => (text) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text)
export const bold = paint('1')
export const dim = paint('2')
export const green = paint('32')
export const cyan = paint('36')
export const yellow = paint('33')

export function print(text = '') {
  process.stdout.write(`${text}\n`)
}

export function title(number, text) {
  print(`\n${cyan(bold(`${number}`))} ${bold(text)}`)
}

export function command(args) {
  print(`  ${dim('$')} ${['strata', ...args].join(' ')}`)
}

export function size(bytes) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB']
  const power = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3))
  return power === 0 ? `${bytes} B` : `${(bytes / 1000 ** power).toFixed(1)} ${units[power]}`
}

/** Of a digest as much as one compares by eye. */
export function short(digest) {
  return digest.replace(/^(sha256:.{12}).*/, '$1')
}

/** A name out of an image: bytes that a terminal might act on are shown as what they are. */
export function safe(bytes) {
  return Buffer.from(bytes)
    .toString('utf8')
    .replace(/[^\x20-\x7e\u00a0-\uffff]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
