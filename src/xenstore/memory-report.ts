/** The report of CONTROL memreport: where the memory is, and what was denied, in lines. */
import type { XenstoreServer } from './server.js';

export function memoryReport(server: XenstoreServer): string {
  const { arena, store, watches, connections } = server;
  const lines = [
    `nodes ${store.table.size}, snapshots ${store.snapshots.count}, former states ${store.snapshots.kept}`,
    `bytes of paths and values: ${arena.bytesReserved} reserved, ${arena.slotsInUse} slots in use`,
    `watches ${watches.count}, connections ${connections.size}`,
  ];
  for (const { id, kind, domain, out, transactions } of connections) {
    lines.push(
      `connection ${id} (${kind}, domain ${domain.domid}): ${out.size} unsent, ${transactions.size} transactions`,
    );
  }
  for (const { domid, nodes, memory } of server.domains) lines.push(`domain ${domid}: ${nodes} nodes, ${memory} bytes`);
  for (const [what, count] of server.quotas.denials) lines.push(`denied by ${what}: ${count}`);
  return `${lines.join('\n')}\n`;
}
