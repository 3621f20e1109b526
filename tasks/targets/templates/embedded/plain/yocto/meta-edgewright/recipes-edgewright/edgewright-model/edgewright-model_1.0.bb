SUMMARY = "A quantized model in two slots, its server's units, and the program that asks it"
LICENSE = "CLOSED"

inherit systemd useradd

require edgewright-model.inc

SRC_URI = "file://${MODEL_TAR} file://root.tar file://ask.c"
S = "${WORKDIR}"

SYSTEMD_SERVICE:${PN} = "edgewright.socket edgewright.service"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --no-create-home --shell /sbin/nologin edgewright"

# The unit runs Python from here; which image brings it is the distribution's choice.
RDEPENDS:${PN} = "util-linux-flock"

do_compile() {
    ${CC} ${CFLAGS} ${LDFLAGS} -std=c99 -Wall -Wextra -o edgewright-ask ask.c
}

do_install() {
    tar -xf ${WORKDIR}/root.tar --no-same-owner -C ${D}
    install -d ${D}${localstatedir}/lib/edgewright/a ${D}${localstatedir}/lib/edgewright/b
    tar -xf ${WORKDIR}/${MODEL_TAR} --no-same-owner -C ${D}${localstatedir}/lib/edgewright/a
    install -D -m 0755 edgewright-ask ${D}${bindir}/edgewright-ask
}

FILES:${PN} += "${localstatedir}/lib/edgewright ${systemd_system_unitdir} ${libdir}/tmpfiles.d ${libdir}/sysusers.d"
