// What the page must tell: which controls there are, what a picture shows, how long it took.
(() => {
  const panel = () => document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden)') || document.body;
  const cells = () => [...panel().querySelectorAll('.jp-Cell')];
  const output = cell => cells()[cell].querySelector('.jp-Cell-outputArea');
  const shown = element => element.getClientRects().length > 0;
  const pictures = cell => output(cell)
    ? [...output(cell).querySelectorAll('img, canvas, svg')].filter(shown)
        .filter(element => !element.closest('button, .jp-OutputPrompt, .jp-OutputArea-promptOverlay'))
    : [];
  const hex = buffer => [...new Uint8Array(buffer)].map(b => b.toString(16).padStart(2, '0')).join('');
  const bytes = async picture => {
    if (picture.tagName === 'IMG') return (await fetch(picture.currentSrc || picture.src)).arrayBuffer();
    const text = picture.tagName === 'CANVAS' ? picture.toDataURL() : picture.outerHTML;
    return new TextEncoder().encode(text);
  };
  // A change can be seen when another source is there, is loaded and has had a frame to be drawn.
  const glance = cell => pictures(cell).map(p => p.tagName === 'IMG'
    ? (p.complete && p.naturalWidth ? p.currentSrc || p.src : 'loading') : p.tagName);
  // A slider over names has no class of a widget's own, only that of its row.
  const widget = element => element.closest('.widget-inline-hbox') || element.closest('.jupyter-widgets');
  const CONTROLS = '[role=slider], select, input:not([type=hidden]), textarea, button';

  const heard = [];
  window.lab = {
    controls() {
      const found = [];
      cells().forEach((_, cell) => {
        if (!output(cell)) return;
        for (const element of output(cell).querySelectorAll(CONTROLS)) {
          if (!shown(element) || !element.closest('.jupyter-widgets')) continue;
          const box = widget(element);
          element.dataset.labControl = found.length;
          found.push({
            cell,
            kind: element.getAttribute('role') === 'slider' ? 'slider'
              : element.tagName === 'INPUT' ? element.type : element.tagName.toLowerCase(),
            label: (box.querySelector('.widget-label') || element).innerText.trim(),
          });
        }
      });
      return found;
    },
    of: control => document.querySelector(`[data-lab-control="${control}"]`),
    disabled(control) {
      const element = this.of(control);
      return element.disabled || element.getAttribute('aria-disabled') === 'true'
        || !!element.closest('[disabled]');
    },
    value(control) {
      const element = this.of(control);
      if (element.value !== undefined) return element.value;
      const readout = widget(element).querySelector('.widget-readout');
      return readout ? readout.innerText : element.getAttribute('aria-valuetext');
    },
    atEnd(control) {
      const element = this.of(control);
      return element.tagName === 'SELECT' ? element.selectedIndex === element.options.length - 1
        : element.getAttribute('aria-valuenow') === element.getAttribute('aria-valuemax');
    },
    name: cell => { output(cell).id = `lab-cell-${cell}`; },
    async shows(cell) {
      const digests = [];
      for (const picture of pictures(cell)) {
        digests.push(hex(await crypto.subtle.digest('SHA-256', await bytes(picture))));
      }
      return digests;
    },
    outputs: cell => (output(cell) ? output(cell).querySelectorAll('.jp-OutputArea-child').length : 0),
    complaints: cell => [...output(cell).querySelectorAll('.widget-html pre')].map(e => e.innerText),
    failed: () => [...panel().querySelectorAll('.jp-OutputArea-output')].map(e => e.innerText)
      .filter(text => /^(Error displaying widget|Loading widget|Failed to load model)/.test(text.trim())),
    // Clock: from the last key, or from the menu's choice (its list gets the keys, not the page),
    // to the first frame after the new picture is loaded.
    watch(cell) {
      const before = JSON.stringify(glance(cell));
      const clock = window.lab.clock = { pressed: null, seen: null };
      const press = event => { clock.pressed = event.timeStamp; };
      for (const type of ['keydown', 'change']) window.addEventListener(type, press, true);
      const look = () => {
        if (clock !== window.lab.clock) return;
        const now = JSON.stringify(glance(cell));
        if (clock.pressed !== null && now !== before && !now.includes('"loading"')) {
          for (const type of ['keydown', 'change']) window.removeEventListener(type, press, true);
          requestAnimationFrame(() => { clock.seen = performance.now(); });
        } else requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    },
    kernel: () => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel,
    // Lab shows what a callback raises in its log only; here it is heard.
    listen() {
      this.kernel().anyMessage.connect((_, { msg, direction }) => {
        if (direction !== 'recv' || msg.channel !== 'iopub') return;
        if (msg.header.msg_type === 'error') heard.push(`${msg.content.ename}: ${msg.content.evalue}`);
        if (msg.header.msg_type === 'stream' && msg.content.name === 'stderr') heard.push(msg.content.text);
      });
    },
    heard: () => heard,
    ran() {
      const code = window.jupyterapp.shell.currentWidget.content.widgets
        .filter(w => w.model.type === 'code' && w.model.sharedModel.getSource().trim());
      return code.every(w => w.model.executionCount) && code.length;
    },
    errors() {
      return window.jupyterapp.shell.currentWidget.content.widgets
        .filter(w => w.model.type === 'code')
        .flatMap((w, i) => w.model.outputs.toJSON()
          .filter(o => o.output_type === 'error' || (o.output_type === 'stream' && o.name === 'stderr'))
          .map(o => `${o.ename || 'stderr'}: ${o.evalue || [].concat(o.text).join('')}`));
    },
  };
})();
