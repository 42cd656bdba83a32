import { describeSnapshotter } from './testing/index.js'
import { nameOf, openSnapshotter, VARIANTS } from './variant.js'

for (const variant of VARIANTS) describeSnapshotter(nameOf(variant), (folder) => openSnapshotter(folder, variant))
