/** The style of the status page: system fonts, light and dark by the system's preference, one column on narrow screens. */
export const statusStyle = `
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--line:#e1e4ea;--soft:#f1f3f6;--text:#1b2230;--muted:#5d6779;--link:#2457c5;
--good:#11734b;--good-bg:#dff5ea;--bad:#b3261e;--bad-bg:#fde7e5;--busy:#1f5fbf;--busy-bg:#e3eefc;--wait:#8a5a00;--wait-bg:#fdf0d5;--off:#556070;--off-bg:#e9ecf1;
--shadow:0 1px 2px rgba(20,30,50,.05),0 1px 6px rgba(20,30,50,.04)}
@media (prefers-color-scheme:dark){:root{--bg:#0f131a;--card:#171c25;--line:#2a3240;--soft:#1f2631;--text:#e3e8f0;--muted:#97a3b6;--link:#86aefb;
--good:#5fd3a0;--good-bg:#12362a;--bad:#ff9389;--bad-bg:#43201e;--busy:#84b6ff;--busy-bg:#1a3055;--wait:#f0bd5e;--wait-bg:#3d2f12;--off:#a3aec0;--off-bg:#2a3240;--shadow:none}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans","Liberation Sans",Arial,sans-serif;-webkit-text-size-adjust:100%}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:4px}
code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:.85em}
h1,h2{margin:0;font-weight:650;line-height:1.25;overflow-wrap:anywhere}h1{font-size:1.35rem}h2{font-size:1rem}h2.over{margin:0 0 10px}
.top{display:flex;flex-wrap:wrap;align-items:center;gap:6px 14px;padding:12px 24px;background:var(--card);border-bottom:1px solid var(--line)}
.title{font-weight:700}.logo{color:var(--link)}.push{margin-left:auto}
main{max-width:1180px;margin:0 auto;padding:24px;display:grid;gap:20px}main>*,.cols>*{min-width:0}
.narrow{max-width:420px;padding-top:12vh}
.cols{display:grid;grid-template-columns:minmax(0,2fr) minmax(0,1fr);gap:20px;align-items:start}.cols>div{display:grid;gap:20px}
.card,.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;box-shadow:var(--shadow);min-width:0;overflow:hidden}
.card>header{display:flex;flex-wrap:wrap;gap:6px 10px;align-items:center;padding:12px 16px;border-bottom:1px solid var(--line)}.card>header>:last-child:not(h2){margin-left:auto}
.tiles{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:12px}
.tile{display:grid;gap:1px;padding:12px 16px}.tile b{font-size:1.6rem;line-height:1.25;font-weight:650}.tile.bad{border-color:var(--bad)}.tile.bad b{color:var(--bad)}.tile.wait b{color:var(--wait)}
.muted{color:var(--muted)}.small{font-size:.85rem}.num{font-variant-numeric:tabular-nums}.empty{margin:0;padding:16px;color:var(--muted)}
dl{display:grid;grid-template-columns:1fr 1fr;gap:12px;margin:0;padding:12px 16px}dt{font-size:.8rem;font-weight:600;color:var(--muted)}dd{margin:2px 0 0;overflow-wrap:anywhere}
.scroll{overflow-x:auto}table{width:100%;border-collapse:collapse}
th,td{text-align:left;padding:9px 16px;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}th{font-size:.8rem;font-weight:600;color:var(--muted);background:var(--soft)}
td.when,th:last-child{white-space:nowrap;width:1%}td:first-child{width:45%;min-width:12em}td:nth-child(2){min-width:12em}
.models,.list{list-style:none;margin:0;padding:0}.models>li{display:flex;gap:8px;align-items:flex-start}.models>li+li{margin-top:5px}
.list>li{display:flex;gap:10px;align-items:flex-start;padding:10px 16px;border-top:1px solid var(--line)}.list>li:first-child{border-top:0}.list b{font-weight:600}
.grow{flex:1;min-width:0;overflow-wrap:anywhere}.problem{display:block;color:var(--bad);font-size:.88rem}
.chip{flex:none;padding:1px 9px;border-radius:99px;font-size:.8rem;font-weight:600;line-height:1.6;white-space:nowrap;background:var(--off-bg);color:var(--off)}
.chip.good{background:var(--good-bg);color:var(--good)}.chip.bad{background:var(--bad-bg);color:var(--bad)}.chip.busy{background:var(--busy-bg);color:var(--busy)}.chip.wait{background:var(--wait-bg);color:var(--wait)}
.tag{font-size:.72rem;font-weight:600;border:1px solid var(--line);border-radius:5px;padding:0 5px;color:var(--muted);vertical-align:1px}
.alert{margin:0;padding:10px 16px;background:var(--bad-bg);color:var(--bad);overflow-wrap:anywhere}
.sign{display:grid;gap:10px;padding:24px}.sign .alert{border-radius:6px;padding:8px 12px}.sign p{margin:0}label{font-weight:600;font-size:.88rem}
input,button{font:inherit;padding:8px 12px;border-radius:7px;border:1px solid var(--line)}input{background:var(--bg);color:var(--text)}button{background:var(--link);color:#fff;border-color:transparent;font-weight:600;cursor:pointer}
@media (prefers-color-scheme:dark){button{color:#0f131a}}
@media (max-width:800px){.cols{grid-template-columns:minmax(0,1fr)}.tiles{grid-template-columns:1fr 1fr}main{padding:16px}.top{padding:12px 16px}.push{margin-left:0}dl{grid-template-columns:1fr}}
@media (max-width:600px){table,tbody,tr,td,td:first-child,td.when{display:block;width:auto;min-width:0}thead{display:none}td{border:0;padding:2px 16px}tr{border-top:1px solid var(--line);padding:8px 0}}
`;
