import type { ReactNode } from 'react';

/** What went wrong, said at once by screen readers too; nothing where there is nothing to say. */
export function Fault({ id, children }: { id?: string; children: ReactNode }) {
  if (!children) return null;
  return (
    <p className="fault" id={id} role="alert">
      {children}
    </p>
  );
}
