import { useState } from 'react';

/** The server wants to know who this is. What is typed stays in this page's memory. */
export function TokenAsked({ onToken }: { onToken: (token: string) => void }) {
  const [text, setText] = useState('');
  return (
    <form
      className="asked"
      onSubmit={(event) => {
        event.preventDefault();
        if (text !== '') onToken(text);
      }}
    >
      <label htmlFor="access-token">This server asks for an access token</label>
      <input
        id="access-token"
        type="password"
        autoComplete="off"
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
      <button type="submit">Connect</button>
    </form>
  );
}
