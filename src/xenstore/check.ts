/**
 * The consistency check behind CONTROL check and the tests: everything that is kept twice is counted again.
 *
 * It repairs nothing: what it finds is our bug, and its report is the evidence.
 */
import { nodeMemory } from './accounting.js';
import type { Domain } from './domains.js';
import { LIVE, type Node, nameStart } from './node.js';
import type { XenstoreServer } from './server.js';

interface Account {
  nodes: number;
  watches: number;
  transactions: number;
  memory: number;
}

export function checkStore(server: XenstoreServer): string[] {
  const problems: string[] = [];
  const accounts = new Map<Domain, Account>();
  const account = (domain: Domain): Account => {
    let a = accounts.get(domain);
    if (a === undefined) {
      a = { nodes: 0, watches: 0, transactions: 0, memory: 0 };
      accounts.set(domain, a);
    }
    return a;
  };
  for (const domain of server.domains) account(domain);
  let slots = 0;
  let versions = 0;
  for (const node of server.store.table) {
    slots += slotsOf(node);
    for (let v = node.history; v !== null; v = v.older) versions++;
    if (node.death !== LIVE) continue;
    const a = account(node.perms.owner);
    a.nodes++;
    a.memory += nodeMemory(node);
    checkNode(server, node, problems);
  }
  for (const connection of server.connections) {
    const a = account(connection.domain);
    a.watches += connection.watches.size;
    a.transactions += connection.transactions.size;
    for (const watch of connection.watches.values()) a.memory += watch.memory;
    if (!connection.privileged) a.memory += connection.out.size;
    for (const transaction of connection.transactions.values()) {
      const held = transaction.holdings();
      a.memory += held.memory;
      slots += held.slots;
    }
  }
  for (const _ of server.watches.points()) slots++;
  if (slots !== server.arena.slotsInUse) problems.push(`${server.arena.slotsInUse} slots in use, ${slots} owned`);
  const { kept } = server.store.snapshots;
  if (versions !== kept) problems.push(`${kept} versions kept, ${versions} found`);
  for (const [domain, a] of accounts) compare(domain, a, problems);
  return problems;
}

function compare(domain: Domain, counted: Account, problems: string[]): void {
  let listed = 0;
  for (let node = domain.firstOwned; node !== null; node = node.nextOwned) if (node.perms.owner === domain) listed++;
  if (listed !== counted.nodes)
    problems.push(`domain ${domain.domid}: ${listed} nodes listed, ${counted.nodes} counted`);
  for (const key of ['nodes', 'watches', 'transactions', 'memory'] as const) {
    if (domain[key] !== counted[key]) {
      problems.push(`domain ${domain.domid}: ${domain[key]} ${key} accounted, ${counted[key]} counted`);
    }
  }
}

function slotsOf(node: Node): number {
  let slots = 1 + (node.valueLength > 0 ? 1 : 0);
  for (let v = node.history; v !== null; v = v.older) if (v.valueLength > 0) slots++;
  return slots;
}

function checkNode(server: XenstoreServer, node: Node, problems: string[]): void {
  const path = server.arena.text(node.pathRef, node.pathLength);
  let bytes = 0;
  for (const child of server.store.children(node)) {
    bytes += child.pathLength - nameStart(node) + 1;
    if (child.parent !== node) problems.push(`${path}: a child has another parent`);
  }
  if (bytes !== node.childBytes) problems.push(`${path}: ${node.childBytes} bytes of children, ${bytes} counted`);
  if (node.parent !== null && node.parent.death !== LIVE) problems.push(`${path}: its parent is gone`);
  if (!node.perms.owner.alive) problems.push(`${path}: its owner is gone`);
  if (node.watched !== null && node.watched.node !== node) problems.push(`${path}: watched elsewhere`);
}
