"""The status page: one document that loads nothing else, put together from the files beside this one.

- `page.html` has the places, `page.css` the look. The files in `SCRIPTS` follow each other as one script: each may use
  what those before it define.
- The style and the script stand in the document, and the policy of its answer (Content-Security-Policy) allows exactly
  these, by their hashes, and requests to the server that the page came from. So nothing that a peer or a broker is
  called can become part of the page but as text.
- The page asks for `/statz` and `/eventz`, and steers by `/steer`; all that it keeps is in the browser's memory.
"""

from pollbroker.metrics.page.assembling import PAGE_HEADERS, page

__all__ = ["PAGE_HEADERS", "page"]
