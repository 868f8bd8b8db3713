// Parses PowerShell: the scripts that are named, and each block of PowerShell of the Markdown pages. Ends with 1 if one is no
// PowerShell.
import fs from 'node:fs'
import { createRequire } from 'node:module'
import { Language, Parser } from 'web-tree-sitter'

const grammar = createRequire(import.meta.url).resolve('tree-sitter-powershell/tree-sitter-powershell.wasm')
await Parser.init()
const parser = new Parser()
parser.setLanguage(await Language.load(grammar))

// texts are the file's PowerShell, each with the line of the file before it.
function* texts(file) {
  const text = fs.readFileSync(file, 'utf8')
  if (!file.endsWith('.md')) {
    yield [0, text]
    return
  }
  for (const block of text.matchAll(/^```powershell\n([^]*?)^```$/gm)) {
    yield [text.slice(0, block.index).split('\n').length, block[1]]
  }
}

// wrong finds the first place that the grammar does not know.
function wrong(node) {
  if (node.isError || node.isMissing) return node
  for (const child of node.children) {
    const found = child && child.hasError ? wrong(child) : child?.isMissing ? child : undefined
    if (found) return found
  }
}

let parsed = 0
for (const file of process.argv.slice(2)) {
  for (const [before, text] of texts(file)) {
    parsed++
    const root = parser.parse(text).rootNode
    if (root.hasError) {
      const at = wrong(root) ?? root
      console.error(`${file}:${before + at.startPosition.row + 1}: no PowerShell: ${at.text.split('\n')[0]}`)
      process.exitCode = 1
    }
  }
}
if (!process.exitCode) console.log(`${parsed} texts are PowerShell`)
