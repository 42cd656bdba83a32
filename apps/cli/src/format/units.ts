const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']

/**
 * As docker's images and progress print bytes: decimal units, three significant digits (go-units,
 * HumanSizeWithPrecision).
 */
export function humanSize(bytes: number, digits = 3): string {
  let size = bytes
  let unit = 0
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000
    unit++
  }
  // Go's %.3g: no zeros at the end; Number() drops them, and an exponent at 999.6 → 1.00e+3.
  return `${Number(size.toPrecision(digits))}${UNITS[unit] ?? ''}`
}

/** As docker's CREATED and STATUS print a time span (go-units, HumanDuration). */
export function humanDuration(milliseconds: number): string {
  const seconds = Math.trunc(milliseconds / 1000)
  if (seconds < 1) return 'Less than a second'
  if (seconds === 1) return '1 second'
  if (seconds < 60) return `${seconds} seconds`
  const minutes = Math.trunc(seconds / 60)
  if (minutes === 1) return 'About a minute'
  if (minutes < 60) return `${minutes} minutes`
  const hours = Math.round(seconds / 3600)
  if (hours === 1) return 'About an hour'
  if (hours < 48) return `${hours} hours`
  if (hours < 24 * 7 * 2) return `${Math.trunc(hours / 24)} days`
  if (hours < 24 * 30 * 2) return `${Math.trunc(hours / 24 / 7)} weeks`
  if (hours < 24 * 365 * 2) return `${Math.trunc(hours / 24 / 30)} months`
  return `${Math.trunc(hours / 24 / 365)} years`
}

/**
 * `3 minutes ago`; `N/A` for an image that says no time (reproducible builds write none, or year
 * 1).
 */
export function ago(iso: string | undefined, now: number): string {
  const time = iso === undefined ? NaN : Date.parse(iso)
  return Number.isNaN(time) || time <= Date.parse('0001-01-02') ? 'N/A' : `${humanDuration(now - time)} ago`
}

/** As docker's CreatedAt prints a time: `2024-01-01 00:00:00 +0000 UTC`. */
export function goTime(iso: string | undefined): string {
  const time = iso === undefined ? NaN : Date.parse(iso)
  return Number.isNaN(time) ? 'N/A' : `${new Date(time).toISOString().slice(0, 19).replace('T', ' ')} +0000 UTC`
}
