/** The style of every page: system fonts, light and dark by the system's preference, one column on narrow screens. */
export const style = `
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--line:#e1e4ea;--soft:#f1f3f6;--text:#1b2230;--muted:#5d6779;--link:#2457c5;
--ok:#11734b;--ok-bg:#dff5ea;--bad:#b3261e;--bad-bg:#fde7e5;--run:#1f5fbf;--run-bg:#e3eefc;--wait:#8a5a00;--wait-bg:#fdf0d5;--off:#556070;--off-bg:#e9ecf1;--done:#6a3fb5;--done-bg:#efe7fb;
--shadow:0 1px 2px rgba(20,30,50,.05),0 1px 6px rgba(20,30,50,.04);--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
@media (prefers-color-scheme:dark){:root{--bg:#0f131a;--card:#171c25;--line:#2a3240;--soft:#1f2631;--text:#e3e8f0;--muted:#97a3b6;--link:#86aefb;
--ok:#5fd3a0;--ok-bg:#12362a;--bad:#ff9389;--bad-bg:#43201e;--run:#84b6ff;--run-bg:#1a3055;--wait:#f0bd5e;--wait-bg:#3d2f12;--off:#a3aec0;--off-bg:#2a3240;--done:#c3a5ff;--done-bg:#332551;--shadow:none}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans","Liberation Sans",Arial,sans-serif;-webkit-text-size-adjust:100%}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:4px}
code,pre,.mono{font-family:var(--mono);font-size:.87em}
h1,h2,h3{line-height:1.25;margin:0;font-weight:650}h1{font-size:1.45rem;overflow-wrap:anywhere}h2{font-size:1rem}h3{font-size:.92rem}
.top{position:sticky;top:0;z-index:2;display:flex;align-items:center;gap:14px;padding:10px 24px;background:var(--card);border-bottom:1px solid var(--line)}
.logo{font-weight:700;color:var(--text);white-space:nowrap}.logo span{color:var(--link)}.logo:hover{text-decoration:none}
.crumbs{display:flex;min-width:0;overflow:hidden;white-space:nowrap;color:var(--muted)}
.crumbs span{overflow:hidden;text-overflow:ellipsis}.crumbs span:before{content:"/";margin:0 8px;color:var(--line)}.crumbs b{font-weight:500;color:var(--text)}
.live{margin-left:auto;font-size:.8rem;color:var(--muted);white-space:nowrap}.live:before{content:"";display:inline-block;width:8px;height:8px;border-radius:50%;background:var(--off);margin-right:6px}
.live[data-state=on]:before{background:#22a06b}.live[data-state=off]:before{background:#d9822b}
.menu{display:flex;gap:4px;padding:0 20px;background:var(--card);border-bottom:1px solid var(--line);overflow-x:auto}
.menu a{padding:9px 10px;color:var(--muted);border-bottom:2px solid transparent;white-space:nowrap}.menu a:hover{color:var(--text);text-decoration:none}
.menu a[aria-current]{color:var(--text);border-color:var(--link);font-weight:600}
main{max-width:1180px;margin:0 auto;padding:24px;display:grid;gap:20px}
main>*{min-width:0}
.cols{display:grid;grid-template-columns:minmax(0,2fr) minmax(0,1fr);gap:20px;align-items:start}.cols>div{display:grid;gap:20px;min-width:0}
.head{display:grid;gap:8px}.head p{margin:0}.line{display:flex;flex-wrap:wrap;gap:6px 10px;align-items:center}
.muted,.meta{color:var(--muted)}.meta{font-size:.88rem}.num{font-variant-numeric:tabular-nums}.small{font-size:.85rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;box-shadow:var(--shadow);overflow:hidden;min-width:0}
.card>header{display:flex;align-items:center;gap:10px;padding:12px 16px;border-bottom:1px solid var(--line)}.card>header>:last-child:not(h2){margin-left:auto}
.empty{margin:0;padding:16px;color:var(--muted)}
.pad{padding:14px 16px}.pad>:first-child{margin-top:0}.pad>:last-child{margin-bottom:0}
.list{list-style:none;margin:0;padding:0}.list>li{padding:11px 16px;border-top:1px solid var(--line);min-width:0}.list>li:first-child{border-top:0}
.list>li.sub{padding:6px 16px;font-size:.78rem;font-weight:600;color:var(--muted);background:var(--soft)}.row{display:flex;gap:10px;align-items:flex-start}.row>.grow{flex:1;min-width:0}.row .title{font-weight:550;color:var(--text);overflow-wrap:anywhere}
.status{display:flex;gap:8px;align-items:flex-start;margin-top:3px}.right{margin-left:auto;text-align:right;white-space:nowrap}
.scroll{overflow-x:auto}
.card>.scroll>table,.plain table{width:100%;border-collapse:collapse}.card>.scroll th,.card>.scroll td,.plain th,.plain td{text-align:left;padding:9px 16px;border-top:1px solid var(--line);vertical-align:top}
.card>.scroll thead th,.plain thead th{border-top:0;font-size:.8rem;font-weight:600;color:var(--muted);background:var(--soft);white-space:nowrap}
.chip{display:inline-flex;align-items:center;gap:5px;padding:1px 9px 1px 7px;border-radius:99px;font-size:.8rem;font-weight:600;line-height:1.6;white-space:nowrap;background:var(--off-bg);color:var(--off)}
.chip i{font-style:normal;font-size:.95em}
.dot{display:inline-grid;place-items:center;width:20px;height:20px;border-radius:50%;font-size:.72rem;font-weight:700;background:var(--off-bg);color:var(--off);flex:none}
.s-success,.s-opened,.s-available{background:var(--ok-bg);color:var(--ok)}.s-failed{background:var(--bad-bg);color:var(--bad)}.s-closed{background:var(--bad-bg);color:var(--bad)}
.s-running{background:var(--run-bg);color:var(--run)}.s-pending{background:var(--wait-bg);color:var(--wait)}.s-merged{background:var(--done-bg);color:var(--done)}
.s-running i,.dot.s-running{animation:pulse 1.6s ease-in-out infinite}@keyframes pulse{50%{opacity:.45}}@media (prefers-reduced-motion:reduce){*{animation:none!important}}
.ref code,code.ref{background:var(--soft);border-radius:5px;padding:2px 6px;overflow-wrap:anywhere}
.tag{display:inline-block;font-size:.72rem;font-weight:600;border:1px solid var(--line);border-radius:5px;padding:0 5px;color:var(--muted);vertical-align:1px}
.person{color:var(--text);font-weight:550}.meta .person{font-weight:inherit}.row>.chip:first-child,.row>a:first-child>.chip{min-width:88px;margin-top:1px}
.avatar{display:inline-grid;place-items:center;width:32px;height:32px;border-radius:50%;font-size:.85rem;font-weight:700;color:#fff;flex:none}.avatar.bot{border-radius:9px}
.a0{background:#3b6fd4}.a1{background:#0f8a6c}.a2{background:#a3548d}.a3{background:#b8621b}.a4{background:#6750b8}.a5{background:#4a6576}
.stages{display:flex;gap:28px;padding:14px 16px;align-items:flex-start}.stage{display:grid;gap:8px;min-width:170px;position:relative}
.stage:not(:last-child):after{content:"";position:absolute;right:-22px;top:43px;width:16px;border-top:2px solid var(--line)}
.stage h3{font-size:.78rem;font-weight:600;color:var(--muted)}
.job{display:flex;align-items:center;gap:8px;border:1px solid var(--line);border-radius:8px;padding:6px 10px 6px 7px;background:var(--card);color:var(--text);white-space:nowrap;min-height:35px}
.job:hover{border-color:var(--link);text-decoration:none}.job .num{margin-left:auto;padding-left:8px;color:var(--muted);font-size:.8rem}.job.now{border-color:var(--link);box-shadow:0 0 0 1px var(--link)}
.bar{display:flex;gap:3px;align-items:center}
.warning{margin:0;padding:10px 16px;background:var(--bad-bg);color:var(--bad);white-space:pre-wrap;overflow-wrap:anywhere}
.note{display:grid;grid-template-columns:32px minmax(0,1fr);gap:12px}.note .card{overflow:visible}.note .card>.meta{margin:0;padding:12px 16px 0}
.note header{display:flex;flex-wrap:wrap;gap:4px 8px;align-items:baseline;padding:8px 16px;border-bottom:1px solid var(--line);background:var(--soft);border-radius:9px 9px 0 0}
.note .reply{border-top:1px solid var(--line)}.note .reply header{border-radius:0}.system{display:flex;flex-wrap:wrap;gap:4px 8px;align-items:baseline;margin-left:12px;padding-left:31px;color:var(--muted);font-size:.88rem;position:relative}
.system:before{content:"";position:absolute;left:0;top:7px;width:8px;height:8px;border-radius:50%;background:var(--line)}.system .md{font-size:inherit}.system .md p{display:inline;margin:0}
.anchor{margin-left:auto;color:var(--muted);font-size:.8rem}
.reactions{display:flex;flex-wrap:wrap;gap:6px;padding:0 16px 12px}.reactions span{border:1px solid var(--line);border-radius:99px;padding:1px 9px;font-size:.85rem;background:var(--soft)}
:target{scroll-margin-top:70px}:target>.card{border-color:var(--link)}
.md{overflow-wrap:break-word}.md>:first-child{margin-top:0}.md>:last-child{margin-bottom:0}.note .md{padding:14px 16px}
.md h1,.md h2,.md h3,.md h4{margin:1.3em 0 .5em}.md h1,.md h2{font-size:1.2rem;padding-bottom:.3em;border-bottom:1px solid var(--line)}.md h3{font-size:1.02rem}.md h4,.md h5,.md h6{font-size:.95rem}
.md p,.md ul,.md ol,.md pre,.md blockquote,.md .scroll{margin:.7em 0}.md ul,.md ol{padding-left:1.6em}.md li+li{margin-top:.15em}.md li p{margin:.3em 0}
.md code{background:var(--soft);border-radius:5px;padding:.15em .4em}.md pre{background:var(--soft);border:1px solid var(--line);border-radius:8px;padding:12px 14px;overflow-x:auto;line-height:1.45}.md pre code{background:none;padding:0}
.md li>code,.md p>code,.md td code{overflow-wrap:anywhere}
.md table{border-collapse:collapse;font-variant-numeric:tabular-nums}.md th,.md td{padding:6px 13px;border:1px solid var(--line);text-align:left;vertical-align:top}.md th{background:var(--soft);font-weight:600;white-space:nowrap}
.md [align=right]{text-align:right}.md td[align=right]{white-space:nowrap}.md td{min-width:5.5em}.md [align=center]{text-align:center}
.md img{max-width:100%;height:auto;border-radius:8px;border:1px solid var(--line);display:block;background:#fff}.md p>img{max-width:min(100%,720px)}
.md blockquote{border-left:4px solid var(--line);padding-left:14px;color:var(--muted);margin-left:0}.md hr{border:0;border-top:1px solid var(--line);margin:1.2em 0}
.md details{border:1px solid var(--line);border-radius:8px;margin:.7em 0;padding:0 14px}.md summary{cursor:pointer;padding:8px 0;font-weight:600}.md details[open]{padding-bottom:12px}.md details[open]>summary{border-bottom:1px solid var(--line);margin-bottom:12px}
.logbox{background:#10151d;color:#d6dde8;border-radius:10px;border:1px solid var(--line);overflow:hidden}.logbox>header{display:flex;gap:12px;align-items:center;padding:9px 16px;border-bottom:1px solid #2a3240;color:#97a3b6;font-size:.88rem}.logbox a{color:#9dbdfc}.logbox header a{margin-left:auto}
.log{margin:0;padding:12px 0;counter-reset:line;font-family:var(--mono);font-size:.82rem;line-height:1.55;white-space:pre-wrap;overflow-wrap:anywhere}
.log div{counter-increment:line;padding:0 16px 0 64px;position:relative;min-height:1.55em}.log div:before{content:counter(line);position:absolute;left:0;width:48px;text-align:right;color:#5f6c80;user-select:none}.log div:hover{background:#1b2330}
.b{font-weight:700}.d{opacity:.7}.i{font-style:italic}.u{text-decoration:underline}
.f0{color:#8893a5}.f1{color:#ff8f86}.f2{color:#6fd6a2}.f3{color:#f2c66d}.f4{color:#8db8ff}.f5{color:#d3a6ff}.f6{color:#6fd3e3}.f7{color:#e8edf5}
.g0{background:#2d3646}.g1{background:#6b2723}.g2{background:#1b5138}.g3{background:#5f4715}.g4{background:#22447c}.g5{background:#533179}.g6{background:#16505a}.g7{background:#5d6878}
.code{margin:0;padding:12px 16px;overflow-x:auto;line-height:1.5;tab-size:4}.diff{display:grid;width:max-content;min-width:100%}.add{background:var(--ok-bg)}.del{background:var(--bad-bg)}.hunk{color:var(--muted);background:var(--soft)}
dl.facts{display:grid;grid-template-columns:auto minmax(0,1fr);gap:6px 16px;margin:0}dl.facts dt{color:var(--muted)}dl.facts dd{margin:0;overflow-wrap:anywhere}
.pic{display:block;max-width:100%;padding:16px}
@media (max-width:860px){.cols{grid-template-columns:minmax(0,1fr)}}
@media (max-width:600px){.wide{flex-wrap:wrap;gap:6px 10px}.wide>.grow{order:1;flex-basis:100%}.wide>.right{display:flex;gap:8px;align-items:center}.chip{min-width:0!important}main{padding:14px 12px;gap:14px}.cols,.cols>div{gap:14px}.top{padding:9px 12px;gap:6px}.menu{padding:0 6px}.crumbs span:not(:last-child){display:none}.logo{font-size:0}.logo span{font-size:1.1rem}h1{font-size:1.2rem}
.note{grid-template-columns:minmax(0,1fr);gap:0}.note>.avatar{display:none}.note .md{padding:12px}.system{margin-left:0;padding-left:18px}.log div{padding-left:46px}.log div:before{width:34px}.card>.scroll th,.card>.scroll td{padding:8px 12px}.list>li{padding:10px 12px}}
`;
