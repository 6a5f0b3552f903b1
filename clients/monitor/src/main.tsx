import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import './style/page.css';
import './style/forms.css';
import './style/head.css';
import './style/picture.css';
import './style/side.css';
import './style/inspector.css';
import './style/tablet.css';
import './style/phone.css';
import { Page } from './ui/Page';

createRoot(document.getElementById('root') as HTMLElement).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
