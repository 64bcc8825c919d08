/** Statements back to text: one canonical form, which parses to the same statements. */
import { accessCommand, type Check, formatNumber, formatPciFunction, type Script, type Statement } from './script.js';

const INDENT = '  ';

/** A script as text, a statement a line. */
export function formatScript(script: Script): string {
  return lines(script, '').join('');
}

function lines(statements: Script, indent: string): string[] {
  return statements.flatMap((statement) => {
    if (statement.kind !== 'repeat') return [`${indent}${formatStatement(statement)}\n`];
    const body = lines(statement.body, indent + INDENT);
    return [`${indent}repeat ${statement.count} {\n`, ...body, `${indent}}\n`];
  });
}

/** One statement on one line. */
export function formatStatement(statement: Statement): string {
  switch (statement.kind) {
    case 'read':
      return `${accessCommand(statement)} ${formatNumber(statement.address)}${formatCheck(statement.check)}`;
    case 'write':
      return `${accessCommand(statement)} ${formatNumber(statement.address)} ${formatNumber(statement.value)}`;
    case 'cfgread':
      return `${formatConfig(statement)}${formatCheck(statement.check)}`;
    case 'cfgwrite':
      return `${formatConfig(statement)} ${formatNumber(statement.value)}`;
    case 'outs':
      return `outs ${formatNumber(statement.port)} ${formatBytes(statement.bytes)}`;
    case 'memread': {
      const expected = statement.expected ? ` == ${formatBytes(statement.expected)}` : '';
      return `memread ${formatNumber(statement.address)} ${statement.length}${expected}`;
    }
    case 'memwrite':
      return `memwrite ${formatNumber(statement.address)} ${formatBytes(statement.bytes)}`;
    case 'irq':
      return `irq ${statement.irq}${formatCheck(statement.check)}`;
    case 'irqs':
      return 'irqs';
    case 'sleep':
      return `sleep ${statement.ms}`;
    case 'print':
      return `print "${escapeText(statement.text)}"`;
    case 'repeat':
      return `repeat ${statement.count} { ${statement.body.map(formatStatement).join('; ')} }`;
  }
}

function formatConfig(statement: Extract<Statement, { kind: 'cfgread' | 'cfgwrite' }>): string {
  const { kind, pci, register, size } = statement;
  return `${kind} ${formatPciFunction(pci)} ${formatNumber(register)} ${size}`;
}

function formatCheck(check: Check | undefined): string {
  if (!check) return '';
  const mask = check.mask === undefined ? '' : ` & ${formatNumber(check.mask)}`;
  const within = check.withinMs === undefined ? '' : ` within ${check.withinMs}`;
  return `${mask} ${check.isEqual ? '==' : '!='} ${formatNumber(check.value)}${within}`;
}

/** Text where every byte is a plain character, else hexadecimal. */
export function formatBytes(bytes: Uint8Array): string {
  const isText = bytes.every((b) => (b >= 0x20 && b < 0x7f) || b === 0x0a || b === 0x0d || b === 0x09);
  if (isText) return `"${escapeText(String.fromCharCode(...bytes))}"`;
  return `x"${Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')}"`;
}

const ESCAPED: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\', '"': '\\"' };

function escapeText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what has to be escaped
  return text.replaceAll(/[\x00-\x1f\x7f"\\]/g, (character) => {
    return ESCAPED[character] ?? `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}
