import { randomInt } from 'node:crypto'

const QUALITIES = ['amber', 'basal', 'banded', 'bright', 'calm', 'clear', 'cool', 'deep', 'dense', 'early', 'even', 'fine', 'firm', 'folded', 'gentle', 'glassy', 'grey', 'hidden', 'late', 'light', 'lower', 'mild', 'old', 'pale', 'polar', 'quiet', 'rough', 'sandy', 'silent', 'slow', 'soft', 'solid', 'steep', 'still', 'stout', 'upper', 'warm', 'young']
const ROCKS = ['agate', 'andesite', 'basalt', 'beryl', 'calcite', 'chalk', 'chert', 'clay', 'coral', 'diorite', 'dolomite', 'feldspar', 'flint', 'gabbro', 'garnet', 'gneiss', 'granite', 'gravel', 'gypsum', 'halite', 'jasper', 'limestone', 'loess', 'marble', 'marl', 'mica', 'moraine', 'obsidian', 'opal', 'peat', 'pumice', 'quartz', 'sandstone', 'schist', 'shale', 'slate', 'talc', 'tuff']

/** A name for a container that was given none: two words, and a number once the short names run out. */
export function randomName(attempt: number): string {
  const pick = (words: readonly string[]): string => words[randomInt(words.length)] ?? 'rock'
  return `${pick(QUALITIES)}_${pick(ROCKS)}${attempt < 3 ? '' : String(randomInt(100_000))}`
}
