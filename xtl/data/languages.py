"""Language codes that mean the same: of two and three letters (ISO 639), withdrawn ones, with regions and scripts.

Tasks and benchmarks name languages by ISO 639-1. Data sets and people also write `zho`, `cmn`, `zh-CN`, `zh_Hans` or
`iw`; what is near in spelling (`ben` and `en`) is mostly another language.
"""

import re
from collections.abc import Iterable

# Our code = others: ISO 639-2/T, 639-2/B, individual languages of a macrolanguage, withdrawn and BCP 47 codes.
EQUIVALENT = """
af=afr am=amh ar=ara,arb,arz az=aze,azj be=bel bg=bul bn=ben bs=bos ca=cat cs=ces,cze cy=cym,wel da=dan de=deu,ger
el=ell,gre en=eng eo=epo es=spa et=est,ekk eu=eus,baq fa=fas,per,pes,prs fi=fin fr=fra,fre ga=gle gl=glg gn=grn gu=guj
ha=hau he=heb,iw hi=hin hr=hrv ht=hat hu=hun hy=hye,arm id=ind,in ig=ibo is=isl,ice it=ita ja=jpn jv=jav,jw
ka=kat,geo kk=kaz km=khm ko=kor ku=kur,kmr ky=kir la=lat lo=lao lt=lit lv=lav,lvs mg=mlg,plt mi=mri,mao mk=mkd,mac
ml=mal mn=mon,khk mr=mar ms=msa,may,zsm mt=mlt my=mya,bur ne=nep,npi nl=nld,dut no=nor,nb,nob,nn,nno om=orm or=ori,ory
pa=pan,pnb pl=pol ps=pus,pbt pt=por qu=que,quy,quz ro=ron,rum,mo,mol ru=rus rw=kin sa=san sd=snd si=sin sk=slk,slo
sl=slv so=som sq=sqi,alb,als sr=srp,sh,hbs su=sun sv=swe sw=swa,swh ta=tam te=tel tg=tgk th=tha tl=tgl,fil tr=tur tt=tat
ug=uig uk=ukr ur=urd uz=uzb,uzn vi=vie wo=wol xh=xho yi=yid,ydd,ji yo=yor zh=zho,chi,cmn zu=zul
"""
CODE_OF = {
    name: ours
    for entry in EQUIVALENT.split()
    for ours, _, others in (entry.partition("="),)
    for name in (ours, *others.split(","))
}


def common(code: str) -> str:
    """The code under which all codes of a language are the same: zh for zh-CN, zh_Hans, ZH, zho and cmn."""
    language = re.split(r"[-_@.]", code.strip().casefold())[0]
    return CODE_OF.get(language, language)


def suggestion(code: str, known: Iterable[str]) -> str:
    """` Did you mean 'zh'?` where one of the known codes is the same language, else the list of them; "" without any.

    To be appended to an error message.
    """
    known = sorted(known)
    same = [x for x in known if x != code and common(x) == common(code)]
    if same:
        return f" Did you mean {same[0]!r}?"
    return f" Known: {', '.join(known)}." if known else ""
