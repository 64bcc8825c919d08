/** Results as lines for people and as objects for programs. */
import { formatBytes, formatStatement } from './format.js';
import type { InterruptState, Result } from './play.js';
import { type Check, formatNumber, formatPciFunction, type Statement } from './script.js';

type Played = Result['statement'];

/** The statement without its check: what was done. */
function action(statement: Played): string {
  if (statement.kind === 'memread') return `memread ${formatNumber(statement.address)} ${statement.length}`;
  if (!('check' in statement)) return formatStatement(statement);
  const { check: _, ...plain } = statement;
  return formatStatement(plain as Statement);
}

function expectation(check: Check): string {
  const masked = check.mask === undefined ? '' : ` in ${formatNumber(check.mask)}`;
  return `${check.isEqual ? '' : 'anything but '}${formatNumber(check.value)}${masked}`;
}

/** `ISA 4 5, 00:03 INTA`, or `none`. */
export function formatInterrupts({ isa, intx }: InterruptState): string {
  const parts = isa.length > 0 ? [`ISA ${isa.join(' ')}`] : [];
  for (const { device, pin } of intx) {
    parts.push(`00:${device.toString(16).padStart(2, '0')} INT${'ABCD'[pin] ?? '?'}`);
  }
  return parts.join(', ') || 'none';
}

/** A line for people; undefined for what has nothing to say (writes and sleeps, unless `verbose`). */
export function resultText(result: Result, verbose = false): string | undefined {
  const { statement } = result;
  switch (result.kind) {
    case 'done':
      if (statement.kind === 'print') return statement.text;
      return verbose ? action(statement) : undefined;
    case 'interrupts':
      return `irqs = ${formatInterrupts(result.interrupts)}`;
    case 'bytes': {
      const line = `${action(statement)} = ${formatBytes(result.bytes)}`;
      const expected = statement.kind === 'memread' ? statement.expected : undefined;
      return line + verdict(result.isOk, statement, () => (expected ? formatBytes(expected) : ''));
    }
    case 'value': {
      const check = 'check' in statement ? statement.check : undefined;
      const line = `${action(statement)} = ${formatNumber(result.value)}`;
      return line + verdict(result.isOk, statement, () => (check ? expectation(check) : ''));
    }
  }
}

function verdict(isOk: boolean | undefined, statement: Played, expected: () => string): string {
  if (isOk === undefined) return '';
  return isOk ? ' ok' : ` FAILED: expected ${expected()} (line ${statement.at.line})`;
}

/** An object for programs, ready for JSON: numbers as hexadecimal text, since they can have 64 bits. */
export function resultObject(result: Result): Record<string, unknown> {
  const { statement } = result;
  const object: Record<string, unknown> = { line: statement.at.line, op: operation(statement) };
  if ('address' in statement) object.address = formatNumber(statement.address);
  if ('port' in statement) object.address = formatNumber(statement.port);
  if ('pci' in statement) {
    object.function = formatPciFunction(statement.pci);
    object.register = statement.register;
  }
  if (statement.kind === 'irq') object.irq = statement.irq;
  if (statement.kind === 'print') object.text = statement.text;
  if ('value' in statement) object.value = formatNumber(statement.value);
  if (result.kind === 'value') object.value = formatNumber(result.value);
  if (result.kind === 'bytes') object.bytes = hex(result.bytes);
  if (result.kind === 'interrupts') Object.assign(object, { isa: result.interrupts.isa, intx: result.interrupts.intx });
  if ('isOk' in result) object.ok = result.isOk;
  return object;
}

function operation(statement: Played): string {
  return formatStatement(statement).split(' ', 1)[0] as string;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
