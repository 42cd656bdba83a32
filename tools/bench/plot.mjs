const WIDTH = 760
const STYLE = `text{font:13px system-ui,sans-serif;fill:#24292f}.quiet{fill:#6e7781}.title{font-weight:600}.peer{fill:#8c959f}.ours{fill:#0969da}.mark{stroke:#24292f;fill:none}.grid{stroke:#d0d7de}.line{stroke:#0969da;fill:none;stroke-width:1.5}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#8d96a0}.peer{fill:#6e7681}.ours{fill:#4493f8}.mark{stroke:#e6edf3}.grid{stroke:#3d444d}.line{stroke:#4493f8}}`

/**
 * Horizontal bars from zero, each with its least and most: `rows` of `{ label, value, least, most,
 * isOurs }`.
 */
export function bars(title, unit, rows) {
  const [left, right, step, top] = [190, 150, 30, 44]
  const scale = (WIDTH - left - right) / Math.max(...rows.map(({ most }) => most))
  const body = rows.map(({ label, value, least, most, isOurs }, number) => {
    const y = top + number * step
    const [from, to] = [left + least * scale, left + most * scale]
    return [
      text(left - 10, y + 15, label, 'end'),
      `<rect class="${isOurs ? 'ours' : 'peer'}" x="${left}" y="${y + 2}" width="${round(Math.max(value * scale, 1))}" height="18" rx="2"/>`,
      `<path class="mark" d="M${round(from)} ${y + 11}H${round(to)}M${round(from)} ${y + 7}v8M${round(to)} ${y + 7}v8"/>`,
      text(round(to) + 8, y + 15, `${value.toFixed(value < 10 ? 2 : 1)} ${unit}`),
    ].join('')
  })
  return svg(title, top + rows.length * step + 8, body)
}

/**
 * One panel below another, each a line over the same x: `panels` of `{ label, unit, points: [[x,
 * y]…] }`; y from zero.
 */
export function lines(title, xLabel, panels) {
  const [left, right, height, gap, top] = [70, 20, 90, 34, 66]
  const lastX = Math.max(...panels.flatMap(({ points }) => points.map(([x]) => x)))
  const body = panels.map(({ label, unit, points }, number) => {
    const y = top + number * (height + gap)
    const most = Math.max(...points.map((point) => point[1]), 1) * 1.05
    const path = points.map(
      ([px, py]) =>
        `${round(left + (px / lastX) * (WIDTH - left - right))},${round(y + height - (py / most) * height)}`,
    )
    return [
      text(left, y - 7, label, 'start', 'quiet'),
      `<path class="grid" d="M${left} ${y}H${WIDTH - right}M${left} ${y + height}H${WIDTH - right}"/>`,
      text(
        left - 8,
        y + 5,
        `${most < 10 ? most.toFixed(1) : most.toFixed(0)}${unit ? ` ${unit}` : ''}`,
        'end',
        'quiet',
      ),
      text(left - 8, y + height + 5, '0', 'end', 'quiet'),
      `<polyline class="line" points="${path.join(' ')}"/>`,
    ].join('')
  })
  const bottom = top + panels.length * (height + gap)
  return svg(title, bottom + 10, [
    ...body,
    text(left, bottom, '0', 'start', 'quiet'),
    text(WIDTH - right, bottom, `${lastX} ${xLabel}`, 'end', 'quiet'),
  ])
}

function svg(title, height, body) {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escape(title)}"><style>${STYLE}</style>${text(10, 24, title, 'start', 'title')}${body.join('\n')}</svg>\n`
}

function text(x, y, content, anchor = 'start', kind = '') {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}"${kind && ` class="${kind}"`}>${escape(content)}</text>`
}

function escape(content) {
  return content.replace(/[&<>"]/g, (character) => `&#${character.codePointAt(0)};`)
}

function round(value) {
  return Math.round(value * 10) / 10
}
